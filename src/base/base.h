/*
 * base: what every room may use. No policy, no knowledge of models or devices.
 * Includes all of the room; a file that needs one part includes that part.
 */
#ifndef MU_BASE_BASE_H
#define MU_BASE_BASE_H

#include "base/alloc.h"
#include "base/checked.h"
#include "base/child.h"
#include "base/clock.h"
#include "base/compiler.h"
#include "base/cursor.h"
#include "base/dtype.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/json.h"
#include "base/library.h"
#include "base/log.h"
#include "base/number.h"
#include "base/option.h"
#include "base/rng.h"
#include "base/segment.h"
#include "base/share.h"
#include "base/status.h"
#include "base/team.h"
#include "base/text.h"
#include "base/thread.h"
#include "base/utf8.h"

#endif
