/* Separated text: lines into cells, cells into numbers, dates and codes, and numbers into text.
 * kgsm.h is the manual. A cell that a kernel cannot convert exactly is reported as irregular. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "kgsm.h"

static int is_blank(unsigned char c) { return c == ' ' || c == '\t'; }

/* 1 where the character of UTF-8 at p, of which `left` bytes are there, is white space. */
static int is_wide_space(const unsigned char *p, size_t left) {
    if (left >= 2 && p[0] == 0xC2) return p[1] == 0x85 || p[1] == 0xA0;
    if (left < 3) return 0;
    if (p[0] == 0xE1) return p[1] == 0x9A && p[2] == 0x80;
    if (p[0] == 0xE3) return p[1] == 0x80 && p[2] == 0x80;
    if (p[0] != 0xE2) return 0;
    if (p[1] == 0x81) return p[2] == 0x9F;
    return p[1] == 0x80 && (p[2] <= 0x8A || p[2] == 0xA8 || p[2] == 0xA9 || p[2] == 0xAF);
}

/* 0 where the cell begins or ends with white space beyond ASCII, or begins with an apostrophe. */
static int is_regular(const unsigned char *cell, size_t n) {
    if (n == 0) return 1;
    if (cell[0] == '\'' || is_wide_space(cell, n)) return 0;
    size_t last = n - 1;
    while (last > 0 && (cell[last] & 0xC0) == 0x80) last--;
    return !is_wide_space(cell + last, n - last);
}

int kgsm_csv_cells(size_t size, const char *text, char separator, size_t width, size_t most_rows,
                   int64_t *rows, int64_t *begin, int64_t *length) {
    if (!rows || (size && !text) || (width && most_rows && (!begin || !length)))
        return KGSM_ERR_NULL;
    if (!width || separator == '"' || separator == '\n' || separator == '\r')
        return KGSM_ERR_SHAPE;
    const unsigned char *t = (const unsigned char *)text, sep = (unsigned char)separator;
    size_t row = 0, column = 0, i = 0;
    int filled = 0; /* a cell of the row is not empty */
    while (i < size) {
        if (row == most_rows) return KGSM_ERR_TEXT;
        while (i < size && t[i] == ' ') i++; /* csv's skipinitialspace */
        size_t first = i, end;
        if (i < size && t[i] == '"') {
            first = ++i;
            while (i < size && t[i] != '"' && t[i] >= 0x20) i++;
            if (i == size || t[i] != '"') return KGSM_ERR_TEXT;
            end = i++;
            if (i < size && t[i] != sep && t[i] != '\n' && t[i] != '\r') return KGSM_ERR_TEXT;
        } else {
            while (i < size && t[i] != sep && t[i] != '"' && (t[i] >= 0x20 || t[i] == '\t')) i++;
            end = i;
        }
        while (first < end && is_blank(t[first])) first++;
        while (first < end && is_blank(t[end - 1])) end--;
        if (column == width || !is_regular(t + first, end - first)) return KGSM_ERR_TEXT;
        begin[row * width + column] = (int64_t)first;
        length[row * width + column] = (int64_t)(end - first);
        filled |= end > first;
        column++;
        if (i < size && t[i] == sep) {
            i++;
            if (i < size) continue;
            return KGSM_ERR_TEXT; /* a line is cut off */
        }
        if (i < size && t[i] == '\r') i++;
        if (i == size || t[i] != '\n' || column != width || !filled) return KGSM_ERR_TEXT;
        i++, row++, column = 0, filled = 0;
    }
    *rows = (int64_t)row;
    return KGSM_OK;
}

int kgsm_csv_column(size_t size, const char *text, size_t rows, size_t width, size_t column,
                    const int64_t *begin, const int64_t *length, size_t room, char *buffer) {
    if ((size && !text) || (rows && (!begin || !length)) || (room && !buffer)) return KGSM_ERR_NULL;
    if (column >= width) return KGSM_ERR_SHAPE;
    size_t total = 0;
    for (size_t r = 0; r < rows; r++) {
        const int64_t first = begin[r * width + column], n = length[r * width + column];
        if (first < 0 || n < 0 || (size_t)n > size || (size_t)first > size - (size_t)n)
            return KGSM_ERR_INDEX;
        if ((size_t)n > room - total) return KGSM_ERR_INDEX;
        total += (size_t)n;
    }
    char *to = buffer;
    for (size_t r = 0; r < rows; r++) {
        const size_t n = (size_t)length[r * width + column];
        if (n) memcpy(to, text + begin[r * width + column], n);
        to += n;
    }
    return KGSM_OK;
}

/* KGSM_OK where ends ascend from 0 to at most size. */
static int check_ends(size_t size, const char *buffer, size_t n, const int64_t *ends) {
    if ((size && !buffer) || (n && !ends)) return KGSM_ERR_NULL;
    int64_t before = 0;
    for (size_t i = 0; i < n; i++) {
        if (ends[i] < before || (uint64_t)ends[i] > size) return KGSM_ERR_INDEX;
        before = ends[i];
    }
    return KGSM_OK;
}

/* ---- numbers ------------------------------------------------------------------------ */

static const double TEN[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                             1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                             1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

#ifdef __SIZEOF_INT128__
__extension__ typedef unsigned __int128 wide;

/* q 2**exponent rounded to the nearest double, ties to even; more: q is a little too small. */
static double rounded(wide q, int more, int exponent) {
    int bits = 0;
    for (wide rest = q; rest; rest >>= 8) bits += 8;
    while (bits && !((q >> (bits - 1)) & 1)) bits--;
    const int shift = bits - 53;
    if (shift <= 0) return ldexp((double)(uint64_t)q, exponent);
    uint64_t mantissa = (uint64_t)(q >> shift);
    const wide rest = q & (((wide)1 << shift) - 1), half = (wide)1 << (shift - 1);
    if (rest > half || (rest == half && (more || (mantissa & 1)))) mantissa++;
    return ldexp((double)mantissa, exponent + shift);
}

/* w 10**power for 0 < w and |power| <= 19, correctly rounded: the quotient or product of
 * integers is exact in 128 bits but for a remainder that rounding needs the sign of only. */
static double scaled(uint64_t w, int power) {
    uint64_t ten = 1;
    for (int k = power < 0 ? -power : power; k; k--) ten *= 10;
    if (power >= 0) return rounded((wide)w * ten, 0, 0);
    int left = 0;
    while (!(w >> 63)) w <<= 1, left++;
    const wide numerator = (wide)w << 64;
    return rounded(numerator / ten, numerator % ten != 0, -64 - left);
}
enum { MOST_POWER = 19 };
#else
enum { MOST_POWER = -1 };
static double scaled(uint64_t w, int power) { return (double)w + power; } /* never called */
#endif

/* 1 and the value of [+-]digits[.digits][e[+-]digits]; 0 where it is not exactly of that kind. */
static int read_number(const char *p, size_t n, double *value) {
    size_t i = 0;
    const int negative = n && p[0] == '-';
    if (n && (p[0] == '-' || p[0] == '+')) i++;
    uint64_t w = 0;
    int digits = 0, significant = 0, power = 0;
    for (; i < n && p[i] >= '0' && p[i] <= '9'; i++, digits++) {
        w = 10 * w + (uint64_t)(p[i] - '0');
        significant += w > 0;
        if (significant > 19) return 0;
    }
    if (i < n && p[i] == '.')
        for (i++; i < n && p[i] >= '0' && p[i] <= '9'; i++, digits++, power--) {
            w = 10 * w + (uint64_t)(p[i] - '0');
            significant += w > 0;
            if (significant > 19 || power < -400) return 0;
        }
    if (!digits) return 0;
    if (i < n && (p[i] == 'e' || p[i] == 'E')) {
        int sign = 1, exponent = 0;
        i++;
        if (i < n && (p[i] == '-' || p[i] == '+')) sign = p[i++] == '-' ? -1 : 1;
        if (i == n) return 0;
        for (; i < n && p[i] >= '0' && p[i] <= '9'; i++) {
            exponent = 10 * exponent + (p[i] - '0');
            if (exponent > 400) return 0;
        }
        power += sign * exponent;
    }
    if (i != n) return 0;
    double made;
    if (!w)
        made = 0;
    else if (FLT_EVAL_METHOD == 0 && w < (UINT64_C(1) << 53) && power >= -22 && power <= 22)
        made = power < 0 ? (double)w / TEN[-power] : (double)w * TEN[power];
    else if (power >= -MOST_POWER && power <= MOST_POWER)
        made = scaled(w, power);
    else
        return 0;
    *value = negative ? -made : made;
    return 1;
}

int kgsm_text_floats(size_t size, const char *buffer, size_t n, const int64_t *ends,
                     double *values, uint8_t *irregular) {
    if (n && (!values || !irregular)) return KGSM_ERR_NULL;
    const int code = check_ends(size, buffer, n, ends);
    if (code) return code;
    int64_t first = 0;
    for (size_t i = 0; i < n; i++) {
        values[i] = NAN;
        irregular[i] = 0;
        if (ends[i] > first)
            irregular[i] = !read_number(buffer + first, (size_t)(ends[i] - first), values + i);
        first = ends[i];
    }
    return KGSM_OK;
}

/* ---- dates -------------------------------------------------------------------------- */

/* The number of `n` digits at p, or -1. */
static int digits_of(const char *p, int n) {
    int value = 0;
    for (int i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9') return -1;
        value = 10 * value + (p[i] - '0');
    }
    return value;
}

/* YYYY-MM-DD, or that and [T ]HH:MM, HH:MM:SS, with or without Z; years 1900 to 2100. */
static int read_date(const char *p, size_t n, int64_t *seconds) {
    static const int DAYS[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (n > 10 && p[n - 1] == 'Z') n = n == 11 ? 0 : n - 1;
    if (n != 10 && n != 16 && n != 19) return 0;
    const int year = digits_of(p, 4), month = digits_of(p + 5, 2), day = digits_of(p + 8, 2);
    if (p[4] != '-' || p[7] != '-' || year < 1900 || year > 2100 || month < 1 || month > 12)
        return 0;
    const int leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (day < 1 || day > DAYS[month - 1] + (leap && month == 2)) return 0;
    int hour = 0, minute = 0, second = 0;
    if (n > 10) {
        if ((p[10] != 'T' && p[10] != ' ') || p[13] != ':') return 0;
        hour = digits_of(p + 11, 2), minute = digits_of(p + 14, 2);
    }
    if (n > 16) {
        if (p[16] != ':') return 0;
        second = digits_of(p + 17, 2);
    }
    if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59) return 0;
    int64_t days = 0;
    const int before = year - 1;
    days = (int64_t)before * 365 + before / 4 - before / 100 + before / 400;
    for (int m = 1; m < month; m++) days += DAYS[m - 1] + (leap && m == 2);
    days += day - 1 - 719162; /* 1970-01-01 */
    *seconds = days * 86400 + hour * 3600 + minute * 60 + second;
    return 1;
}

int kgsm_text_dates(size_t size, const char *buffer, size_t n, const int64_t *ends,
                    int64_t *seconds, uint8_t *irregular) {
    if (n && (!seconds || !irregular)) return KGSM_ERR_NULL;
    const int code = check_ends(size, buffer, n, ends);
    if (code) return code;
    int64_t first = 0;
    for (size_t i = 0; i < n; i++) {
        seconds[i] = 0;
        irregular[i] = !read_date(buffer + first, (size_t)(ends[i] - first), seconds + i);
        first = ends[i];
    }
    return KGSM_OK;
}

/* ---- codes -------------------------------------------------------------------------- */

int kgsm_text_codes(size_t size, const char *buffer, size_t n, const int64_t *ends, size_t slots,
                    int64_t *table, int64_t *codes, int64_t *count) {
    if (!count || (n && (!codes || !table))) return KGSM_ERR_NULL;
    if (slots <= n || (slots & (slots - 1))) return KGSM_ERR_SHAPE;
    const int code = check_ends(size, buffer, n, ends);
    if (code) return code;
    for (size_t s = 0; s < slots; s++) table[s] = -1;
    int64_t distinct = 0, first = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t length = (size_t)(ends[i] - first);
        uint64_t hash = UINT64_C(14695981039346656037); /* FNV-1a */
        for (size_t k = 0; k < length; k++)
            hash = (hash ^ (unsigned char)buffer[(size_t)first + k]) * UINT64_C(1099511628211);
        hash ^= hash >> 29;
        size_t slot = (size_t)hash & (slots - 1);
        for (;; slot = (slot + 1) & (slots - 1)) {
            const int64_t row = table[slot];
            if (row < 0) {
                table[slot] = (int64_t)i;
                codes[i] = distinct++;
                break;
            }
            const int64_t from = row ? ends[row - 1] : 0;
            if ((size_t)(ends[row] - from) == length &&
                (!length || !memcmp(buffer + from, buffer + first, length))) {
                codes[i] = codes[row];
                break;
            }
        }
        first = ends[i];
    }
    *count = distinct;
    return KGSM_OK;
}

/* ---- numbers as text ------------------------------------------------------------------ */

/* 1 where s 10**-scale is `value` as a float; -1 where double arithmetic cannot say. */
static int comes_back(double s, int scale, float value) {
    const double d = scale < 0 ? s * TEN[-scale] : s / TEN[scale];
    uint64_t bits;
    memcpy(&bits, &d, sizeof bits);
    if ((bits & UINT64_C(0x1FFFFFFF)) == UINT64_C(0x10000000)) return -1; /* half way */
    return (float)d == value;
}

/* The shortest digits that come back as `value`: s of them, s 10**-scale. 0 where in doubt. */
static int shortest(float value, int exponent, double *s, int *scale) {
    int found = 0;
    for (int digits = 8, step = 0; digits >= 1 && digits <= 9; digits += step) {
        const int k = digits - 1 - exponent;
        const double product = k < 0 ? value / TEN[-k] : value * TEN[k], low = floor(product);
        const double part = product - low;
        int ok;
        double best = part < 0.5 ? low : low + 1;
        if (fabs(part - 0.5) < 1e-5) {
            if (comes_back(low, k, value) || comes_back(low + 1, k, value)) return 0;
            ok = 0;
        } else
            ok = comes_back(best, k, value);
        if (ok < 0) return 0;
        if (ok) *s = best, *scale = k, found = 1;
        if (step == 0) step = ok ? -1 : 1;
        else if ((step < 0) != ok) break;
        if (step > 0 && ok) break;
    }
    return found;
}

/* Number of characters written; 0 for irregular values: outside 2e-4 .. 1e6, or a power of two. */
static size_t write_float(float value, char *to) {
    char *at = to;
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (bits >> 31) *at++ = '-';
    const float size = fabsf(value);
    if (size == 0) {
        memcpy(at, "0.0", 3);
        return (size_t)(at - to) + 3;
    }
    if (!(size >= 2e-4f && size < 1e6f) || !(bits & 0x7FFFFF)) return 0;
    int exponent = -4;
    while (size >= (exponent < -1 ? 1 / TEN[-exponent - 1] : TEN[exponent + 1])) exponent++;
    double s;
    int scale;
    if (!shortest(size, exponent, &s, &scale)) return 0;
    uint64_t digits = (uint64_t)s;
    while (digits && digits % 10 == 0) digits /= 10, scale--; /* 10 .. 0 after rounding up */
    char text[24];
    int n = 0;
    for (; digits; digits /= 10) text[n++] = (char)('0' + digits % 10);
    for (; scale < 0; scale++) memmove(text + 1, text, (size_t)n++), text[0] = '0';
    for (; n <= scale; n++) text[n] = '0';
    while (n > scale) *at++ = text[--n];
    *at++ = '.';
    if (!n) *at++ = '0';
    while (n) *at++ = text[--n];
    return (size_t)(at - to);
}

int kgsm_float_text(size_t n, const float *values, char *buffer, int64_t *ends,
                    uint8_t *irregular) {
    if (n && (!values || !buffer || !ends || !irregular)) return KGSM_ERR_NULL;
    int64_t end = 0;
    for (size_t i = 0; i < n; i++) {
        irregular[i] = 0;
        if (!isnan(values[i])) {
            const size_t written = write_float(values[i], buffer + end);
            irregular[i] = written == 0;
            end += (int64_t)written;
        }
        ends[i] = end;
    }
    return KGSM_OK;
}

int kgsm_text_is_plain(size_t size, const char *buffer, size_t n, const int64_t *ends) {
    const int code = check_ends(size, buffer, n, ends);
    if (code) return code;
    int64_t first = 0;
    for (size_t i = 0; i < n; i++) {
        for (int64_t k = first; k < ends[i]; k++) {
            const unsigned char c = (unsigned char)buffer[k];
            if (c < 0x20 || c == '"' || c == ',') return KGSM_ERR_TEXT;
        }
        if (ends[i] > first && memchr("'=+-@", buffer[first], 5)) return KGSM_ERR_TEXT;
        first = ends[i];
    }
    return KGSM_OK;
}

int kgsm_csv_put(size_t size, const char *buffer, size_t n, const int64_t *ends, char terminator,
                 int64_t *at, size_t room, char *text) {
    if (n && (!at || !text)) return KGSM_ERR_NULL;
    const int code = check_ends(size, buffer, n, ends);
    if (code) return code;
    int64_t first = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t length = (size_t)(ends[i] - first) + 1;
        if (at[i] < 0 || (uint64_t)at[i] > room || length > room - (size_t)at[i])
            return KGSM_ERR_INDEX;
        first = ends[i];
    }
    first = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t length = (size_t)(ends[i] - first);
        if (length) memcpy(text + at[i], buffer + first, length);
        text[(size_t)at[i] + length] = terminator;
        at[i] += (int64_t)length + 1;
        first = ends[i];
    }
    return KGSM_OK;
}
