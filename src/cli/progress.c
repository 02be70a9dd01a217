/* How far something is, as one line on a terminal that is drawn again and again; see cli.h. */
#include "cli/cli.h"

#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define BAR_MIN       8
#define BAR_MAX       30
#define WITH_BAR      24 /* columns; with fewer there are words only */
#define COLUMNS_GUESS 80

static bool drawn;

static unsigned columns(void)
{
    struct winsize size;
    bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    return known ? size.ws_col : COLUMNS_GUESS;
}

/* How many bytes of the text fit, whole characters, and the columns they take. What is not ASCII
 * counts for two: too few are better than a second line, which nothing would take away again. */
static size_t fit(const char *text, unsigned room, unsigned *width)
{
    size_t len = 0;
    for (*width = 0; text[len];) {
        unsigned wide = (unsigned char)text[len] < 0x80 ? 1 : 2;
        if (*width + wide > room) break;
        *width += wide;
        do
            len++;
        while (((unsigned char)text[len] & 0xc0) == 0x80);
    }
    return len;
}

void mu_cli_progress(double part, const char *format, ...)
{
    char text[256], bar[BAR_MAX + 4] = "";
    va_list args;
    if (!mu_cli_fancy()) return;
    unsigned width, room = columns() - 1; /* some terminals wrap after the last column */
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    (void)mu_utf8_copy_harmless(text, sizeof text, mu_str(text), '\0');
    size_t len = fit(text, room, &width);
    if (room >= WITH_BAR) {
        unsigned left = room - width - MU_MIN(room - width, 3u);
        unsigned n = MU_MIN(MU_MAX(left, (unsigned)BAR_MIN), (unsigned)BAR_MAX);
        unsigned full = (unsigned)(part * n);
        bar[0] = '[';
        for (unsigned i = 0; i < n; i++)
            bar[1 + i] = i < full ? '#' : '.';
        bar[1 + n] = ']';
        bar[2 + n] = ' ';
        bar[3 + n] = '\0';
        len = fit(text, room - n - 3, &width);
    }
    mu_cli_say("\r%s%.*s\033[K", bar, (int)len, text);
    drawn = true;
}

void mu_cli_progress_end(void)
{
    if (drawn) mu_cli_say("\r\033[K");
    drawn = false;
}
