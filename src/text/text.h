/* text: text <-> tokens, and conversations -> text. */
#ifndef MU_TEXT_TEXT_H
#define MU_TEXT_TEXT_H

#include "text/template.h"
#include "text/tokenizer.h"

#endif
