/* kgsm.h - the C core of kgsm: from radar backscatter to soil moisture.
 *
 * This header is the manual. The core is plain C11, does not depend on Python, allocates no
 * memory, keeps no state except the chosen tier, and may be called from any number of threads.
 *
 * Symbols (equation numbers are those of Yu, Filippi and Bishop's paper)
 *
 *   sigma0          total backscatter, dB or linear power
 *   V               vegetation water content, VWC, kg m-2
 *   theta           incidence angle, degrees
 *   A, B, E         vegetation parameters: linear power; m2 kg-1; none
 *   gamma2          two-way transmissivity of the vegetation, exp(-2 B V / cos theta)
 *   sigma_soil      the soil's backscatter below the vegetation, dB
 *   soil fraction   (sigma0 - sigma_veg) / sigma0, all linear
 *
 *   R               acquisitions (rows of a table); N windows; T steps of a window
 *   F               channels of the tile, 1 + Fd + Fs + 2
 *
 * Conventions
 *
 *   - Arrays are dense, in C order; shapes are written (N, T). Numbers are float32, days double.
 *     NaN means missing and never becomes a number. Input arrays may hold any bit pattern.
 *   - Outputs must not overlap inputs or each other. A length of 0 is fine; the pointers
 *     may then be NULL.
 *   - Every function returns KGSM_OK or a negative KGSM_ERR_ code. Arguments are checked
 *     before anything is written: after an error the outputs are as they were.
 *   - The result of an element, or of a window, has the same bits at every position of the
 *     arrays and does not depend on its neighbours. The portable tier differs from the others in
 *     the last digits. The others agree bit by bit, except in the LSTM.
 *   - Against float64 arithmetic on the same inputs, sigma_soil is within 1e-4 dB wherever
 *     the soil fraction is >= 0.1, inside the default limits of kgsm_infer/kernels/wcm.py with
 *     B <= 0.2; the worst found is 7.1e-5 dB in the portable tier and 4.7e-5 dB in the
 *     others, at VWC 48, theta 75, B 0.17. (Beyond, the correction
 *     for gamma2 alone is over 300 dB and float32 cannot hold 1e-4 dB of it.)
 *
 * kgsm_infer/kernels/wcm.py, window.py and lstm.py are the readable twins in NumPy.
 */
#ifndef KGSM_H
#define KGSM_H

#include <stddef.h>
#include <stdint.h>

/* Empty where the core is linked into another module, which hides its symbols
 * (-fvisibility=hidden). To make a shared library of it, define this as
 * __attribute__((visibility("default"))) or __declspec(dllexport). */
#ifndef KGSM_API
#define KGSM_API
#endif

/* Version of this header; kgsm_version() returns that of the linked core. */
#define KGSM_VERSION "0.1.0"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- results ---------------------------------------------------------------------- */

enum {
    KGSM_OK = 0,
    KGSM_ERR_NULL = -1,  /* a pointer is NULL although its array is not empty */
    KGSM_ERR_PARAM = -2, /* a model parameter, limit or rule is out of its range */
    KGSM_ERR_ANGLE = -3, /* the angle rule needs angle_deg and it is NULL */
    KGSM_ERR_SHAPE = -4, /* a size of the layout is 0, or the tile is too large to address */
    KGSM_ERR_SCALE = -5, /* a mean is not finite, or an inv_std is not finite and > 0 */
    KGSM_ERR_INDEX = -6, /* a window names a row outside -1 .. R-1 */
    KGSM_ERR_TIER = -7,  /* this machine has no tier of that name */
    KGSM_ERR_TEXT = -8   /* the text is irregular: use the general path */
};

/* Return a one-line message for a code: never NULL, not to be freed. */
KGSM_API const char *kgsm_strerror(int code);

/* Return KGSM_VERSION of the compiled core. */
KGSM_API const char *kgsm_version(void);

/* ---- tiers: the same functions for each instruction set ----------------------------- */
/* "portable" is plain C with the C library's math functions and is always available. "avx2" (with
 * FMA), "avx512" (F, VL, BW, DQ) and "neon" are available on processors that have them. */

/* Choose a tier by name, or the fastest with NULL. After KGSM_ERR_TIER the choice is unchanged.
 * The initial tier is "portable". Choose it before other threads call the core and before
 * kgsm_lstm_prepare: the layout of prepared weights depends on the tier. */
KGSM_API int kgsm_choose_tier(const char *name);

/* Name of the tier in use. */
KGSM_API const char *kgsm_tier(void);

/* Name of the i-th tier of this machine, slowest first; NULL past the last. */
KGSM_API const char *kgsm_tier_name(size_t i);

/* ---- flags: reasons for a missing or doubtful number -------------------------------- */
/* One stable bit each, as in kgsm_infer/base/flags.py. The core sets those marked *. */

enum {
    KGSM_MISSING_INPUT = 1,      /* * an input is missing: no number */
    KGSM_INPUT_OUT_OF_RANGE = 2, /* * an input is outside its physical range: no number */
    KGSM_SOIL_SIGNAL_LOST = 4,   /* * soil fraction below the limit: no number */
    KGSM_DENSE_VEGETATION = 8,   /* * VWC above the limit: a less certain number */
    KGSM_FROZEN_OR_SNOW = 16,    /*   frozen or under snow: no number */
    KGSM_OUTSIDE_DOMAIN = 32,
    KGSM_SHORT_HISTORY = 64,     /* * a step of the window before its last is invalid */
    KGSM_CONTEXT_MISSING = 128,
    KGSM_SM_CLIPPED = 256,
    KGSM_NO_SKILL = 512,
    KGSM_VEGETATION_OLD = 1024,
    KGSM_WET_WITHOUT_RAIN = 2048,
    /* the flags that leave no number */
    KGSM_NO_NUMBER = KGSM_MISSING_INPUT | KGSM_INPUT_OUT_OF_RANGE | KGSM_SOIL_SIGNAL_LOST |
                     KGSM_FROZEN_OR_SNOW
};

/* ---- decibels ---------------------------------------------------------------------- */

/* linear[i] = 10 ** (db[i] / 10), both (n). -inf gives 0; NaN gives NaN.
 * The vector tiers: within 1.30 ULP where the result is a normal number (worst at -344.67932);
 * portable: within 66 ULP (an error in the rounded exponent, worst at -367.26); below -379.2
 * the result is subnormal, and within 1 ULP. */
KGSM_API int kgsm_db_to_linear(size_t n, const float *db, float *linear);

/* db[i] = 10 log10(linear[i]), both (n). 0 gives -inf; below 0 and NaN give NaN.
 * The vector tiers: within 2.35 ULP over all positive floats (worst at 1.2563967); portable:
 * within 2.2 (the C library's log10f). All floats were tried: tests/kernels/test_tiers.py. */
KGSM_API int kgsm_linear_to_db(size_t n, const float *linear, float *db);

/* ---- the water cloud model ---------------------------------------------------------- */

typedef struct {
    double low, high; /* closed; may be infinite, not NaN; low <= high */
} kgsm_range;

enum {
    KGSM_VWC_FOLIAGE = 0, /* vegetation is NDVI N: V = max(0, 1.9134 N**2 - 0.3215 N) + stem */
    KGSM_VWC_COLUMN = 1   /* vegetation is V, kg m-2; stem is not added */
};

enum {
    KGSM_ANGLE_CONSTANT = 0, /* theta = angle_ref_deg everywhere */
    KGSM_ANGLE_COLUMN = 1,   /* theta = angle_deg[i] */
    KGSM_ANGLE_NORMALISE = 2 /* sigma0 (linear) is multiplied by
                                (cos ref / cos angle_deg[i]) ** angle_exponent, then
                                theta = angle_ref_deg */
};

typedef struct {
    double a;                 /* A of Eq 2, linear power, finite, >= 0 */
    double b;                 /* B of Eq 5, m2 kg-1, finite, >= 0 */
    double e;                 /* E of Eq 2, finite, >= 0; 0 in the paper */
    int vwc_rule;             /* KGSM_VWC_... */
    double stem_kg_m2;        /* added to the foliage, kg m-2, finite, >= 0 */
    int angle_rule;           /* KGSM_ANGLE_... */
    double angle_ref_deg;     /* degrees, in (0, 90) */
    double angle_exponent;    /* finite */
    double min_soil_fraction; /* in (0, 1), also as float32; below it the signal is lost */
    kgsm_range sigma0_db;     /* physical range of an input; outside it INPUT_OUT_OF_RANGE */
    kgsm_range vegetation;    /* of NDVI or of V, whichever vwc_rule reads */
    kgsm_range angle_deg;     /* used only where angle_deg is read */
    double dense_vwc_kg_m2;   /* V above it: DENSE_VEGETATION; not NaN */
} kgsm_wcm;

/* The soil's backscatter below the vegetation (Eqs 1, 2, 4, 5, 12), in one pass.
 *
 *   sigma0_db       (n) dB
 *   vegetation      (n) NDVI or kg m-2, as vwc_rule says
 *   angle_deg       (n) degrees; may be NULL with KGSM_ANGLE_CONSTANT, is ignored there
 *   soil_db         (n) out, dB; NaN exactly where flags has a bit of KGSM_NO_NUMBER, and
 *                   finite everywhere else
 *   soil_fraction   (n) out; NaN where an input is missing or out of range, and the small
 *                   or negative fraction itself where the signal is lost
 *   flags           (n) out, bits as above; overwritten
 *
 * An input that is NaN is missing; one that is infinite is out of range unless the range
 * is infinite too. KGSM_ERR_NULL, KGSM_ERR_PARAM, KGSM_ERR_ANGLE. */
KGSM_API int kgsm_isolate(const kgsm_wcm *wcm, size_t n, const float *sigma0_db,
                          const float *vegetation, const float *angle_deg, float *soil_db,
                          float *soil_fraction, uint16_t *flags);

/* Screen backscatter where no vegetation is removed (the plain LSTM): screened_db[i]
 * = sigma0_db[i], or NaN where it is outside `limits` (dB). All (n).
 * KGSM_ERR_NULL, KGSM_ERR_PARAM. */
KGSM_API int kgsm_screen(kgsm_range limits, size_t n, const float *sigma0_db,
                         float *screened_db, uint16_t *flags);

/* SM of the WCM baseline, sm[i] = (soil_db[i] - C) / D (Eqs 3, 6), m3 m-3, both (n).
 * c_db: soil backscatter at SM = 0, dB.  d_db: its change per m3 m-3, dB. Both finite as
 * float32 and D not 0, else KGSM_ERR_PARAM. Not clipped. */
KGSM_API int kgsm_invert(double c_db, double d_db, size_t n, const float *soil_db, float *sm);

/* ---- the LSTM's input tile ----------------------------------------------------------- */

/* Channels in order: backscatter dB; Fd dynamic auxiliaries; Fs statics; gap, days since
 * the previous step (0 where unknown); valid, 1 or 0. All but the last are scaled,
 * (x - mean) * inv_std. */
typedef struct {
    size_t steps;         /* T, >= 1 */
    size_t dynamic;       /* Fd */
    size_t statics;       /* Fs */
    const float *mean;    /* (1 + Fd + Fs + 1) in channel order, finite */
    const float *inv_std; /* (1 + Fd + Fs + 1), 1.0f / std[i] in float32; finite, > 0 */
} kgsm_layout;

/* Make the input tile of n windows over r acquisitions, and the windows' flags.
 *
 *   rows            (n, T) the acquisitions of each window, oldest first; -1 is padding
 *   channel_db      (r) backscatter channel, dB
 *   step_flags      (r) flags already set for each acquisition
 *   day             (r) days since any common origin; gaps are computed in double
 *   dynamic         (r, Fd); may be NULL if Fd is 0
 *   statics         (n, Fs), one line per window; may be NULL if Fs is 0
 *   tile            (T, n, F) out; always finite while no scaling overflows float32
 *   window_flags    (n) out; overwritten
 *
 * A step is valid when it is no padding, its flags have no bit of KGSM_NO_NUMBER, and its
 * backscatter, dynamic auxiliaries and day are finite; otherwise its F channels are all 0.
 * A NaN input sets MISSING_INPUT, an infinite one INPUT_OUT_OF_RANGE. A backscatter that
 * step_flags already explains sets no further flag. A static that is not finite is 0 in the
 * tile.
 *
 * window_flags: those of the last step (MISSING_INPUT if that is padding), those of the
 * window's statics, and SHORT_HISTORY if any other step is invalid.
 * KGSM_ERR_NULL, KGSM_ERR_SHAPE, KGSM_ERR_SCALE, KGSM_ERR_INDEX. */
KGSM_API int kgsm_pack(const kgsm_layout *layout, size_t n, size_t r, const int64_t *rows,
                       const float *channel_db, const uint16_t *step_flags, const double *day,
                       const float *dynamic, const float *statics, float *tile,
                       uint16_t *window_flags);

/* ---- the LSTM -------------------------------------------------------------------------- */

/* M members of the ONNX standard's LSTM (gates i, o, f, c; no peepholes; h and C start at 0),
 * each with a linear head on its last h, and the mean of their estimates. */
typedef struct {
    size_t steps;    /* T, >= 1 */
    size_t channels; /* F, >= 1 */
    size_t hidden;   /* H, 1 .. 2**14 */
    size_t members;  /* M, 1 .. 2**10 */
    /* channels first_static .. first_static + statics - 1 are static: computed once for a
     * window, from its last valid step. They lie before the last channel, which is `valid`
     * as kgsm_pack makes it; in a step where that is 0 statics count as 0. Both 0 for none. */
    size_t first_static, statics;
} kgsm_lstm;

/* Number of floats that kgsm_lstm_prepare writes, and that one call of kgsm_lstm_run needs as
 * scratch, with the tier in use; 0 for an invalid shape. */
KGSM_API size_t kgsm_lstm_prepared_floats(const kgsm_lstm *lstm);
KGSM_API size_t kgsm_lstm_scratch_floats(const kgsm_lstm *lstm);

/* Lay out the weights for the tier in use, once for a model.
 *
 *   w          (M, 4 H, F) input weights      r  (M, 4 H, H) recurrent weights
 *   b          (M, 8 H) input biases, then recurrent biases
 *   head       (M, H)                         head_bias  (M)
 *   prepared   out; threads may share it afterwards
 *
 * KGSM_ERR_NULL, KGSM_ERR_SHAPE. */
KGSM_API int kgsm_lstm_prepare(const kgsm_lstm *lstm, const float *w, const float *r,
                               const float *b, const float *head, const float *head_bias,
                               float *prepared);

/* sm[i] of n windows, m3 m-3, neither clipped nor masked.
 *
 *   tile       (T, lines, F), of which windows 0 .. n-1 are read: a part of a wider tile is
 *              run by passing a pointer to its first window and the wider tile's lines
 *   scratch    one per thread
 *   sm         (n) out; NaN where any input of the window is NaN (of the statics: where
 *              they are in its last valid step)
 *
 * Within 2e-6 of float64 for weights and inputs of a trained model, typically 1e-7 (the
 * activations are within 2e-7). KGSM_ERR_NULL, KGSM_ERR_SHAPE (also for lines < n). */
KGSM_API int kgsm_lstm_run(const kgsm_lstm *lstm, const float *prepared, size_t n, size_t lines,
                           const float *tile, float *scratch, float *sm);

/* ---- the head -------------------------------------------------------------------------- */

enum {
    KGSM_LINK_IDENTITY = 0, /* SM is the line itself */
    KGSM_LINK_NORMAL = 1    /* SM = low (1 - p) + high p, p = Phi(line); Phi is the standard normal
                               distribution function, (1 + erf(x / sqrt 2)) / 2 */
};

typedef struct {
    size_t steps, channels; /* T, F, >= 1 */
    const float *weight;    /* (T, F) finite; a channel with weight 0 is not read */
    float bias;             /* finite */
    int link;               /* KGSM_LINK_... */
    float low, high;        /* read with KGSM_LINK_NORMAL only: m3 m-3 at line = -inf and at +inf;
                               finite, low < high */
} kgsm_head;

/* SM of the physics head (change detection, WCM or label-free index), from the tile:
 *
 *   line = bias + sum over t, f of weight[t][f] tile[t][i][f],  sm[i] = link(line)
 *
 *   tile       (T, n, F) as kgsm_pack makes it
 *   sm         (n) out, m3 m-3, neither clipped nor masked; NaN where a channel that is read
 *              is NaN
 *
 * Units of weight and bias: m3 m-3 with KGSM_LINK_IDENTITY, none with KGSM_LINK_NORMAL. Within
 * 2e-7 (high - low) of float64 with KGSM_LINK_NORMAL.
 * KGSM_ERR_NULL, KGSM_ERR_SHAPE (T or F is 0), KGSM_ERR_PARAM. */
KGSM_API int kgsm_readout(const kgsm_head *head, size_t n, const float *tile, float *sm);

/* ---- the domain ------------------------------------------------------------------------ */

/* Euclidean distance from each of n points to the nearest of `count` training points, in the
 * scaled channels of the target: the numerator of the dissimilarity index.
 *
 *   x          n lines of `channels` floats, the lines `stride` floats apart (to read the
 *              first channels of the tile's last step in place)
 *   points     (channels, count), count >= 1, finite
 *   distance   (n) out; NaN where a line has a NaN
 *
 * Relative error below channels * 1e-7. KGSM_ERR_NULL, KGSM_ERR_SHAPE (also for stride <
 * channels). */
KGSM_API int kgsm_nearest(size_t n, size_t stride, size_t channels, const float *x,
                          size_t count, const float *points, float *distance);

/* ---- fusion: fine images on days with only a coarse image ---------------------------------- */

/* Unbiased ESTARFM (Yu et al. 2023, doi 10.1016/j.rse.2023.113784): from two days with a fine
 * image F_k and a coarse one C_k, k = 1, 2, and the coarse image C_0 of a third day, that day's
 * fine image. All on one fine grid; any unit. For a target pixel p:
 *
 *   valid      pixels of the window, +-radius around p and cut at the images' edges, where all
 *              five inputs are finite
 *   Q          of those, q with |F_k(q) - F_k(p)| < sigma_k for both k; p is one of them
 *   at least 6 in Q:
 *     b_k = mean_Q(C_k) - mean_Q(F_k),  G_k = F_k + b_k
 *     S   = 1 - 1/2 sum_k |(G_k - C_k) / (G_k + C_k)|; 1/2 where that is outside [-1, 1]
 *     w   = 1 / ((1 - S) (1 + |q - p| / radius) + 1e-7), then of sum 1
 *     e_k = |mean over valid (C_0 - C_k)| + 1e-10,  T_k = (1/e_k) / (1/e_1 + 1/e_2)
 *     fused(p) = sum_k T_k (F_k(p) + b_k + sum_Q w (C_0 - C_k)); where that is not between
 *                low and high, sum_k T_k sum_Q w G_k
 *   fewer:
 *     m_k = mean over valid (C_0 - C_k) + 1e-10,  T_k as above from |m_k|
 *     fused(p) = sum_k T_k (F_k(p) + mean over valid (C_k - F_k) + m_k)
 *
 * Where an input is missing (NaN or infinite) at p, and where the result is no finite float,
 * fused(p) is NaN. Days of one pair share Q, b and w except where a day has an additional gap
 * in the window.
 *
 * Against float64: within 1 ULP on surface temperatures (a difference of two of them is exact
 * in float32); tests/kernels/test_fusion.py states the error for other quantities. */
enum {
    KGSM_FUSION_UNBIASED = 0, /* as above */
    KGSM_FUSION_PLAIN = 1,    /* b_k = 0 and, with fewer than 6, C_k - F_k counted as 0 */
    KGSM_FUSION_REGRESSED = 2 /* plain, and C_0 - C_k in sum_Q is multiplied by V, the slope of F_k
                                 on C_k over Q of both days (ESTARFM, Zhu et al. 2010); V = 1 where
                                 it is not significant at 5 % or not within 0 .. 5 */
};

typedef struct {
    size_t rows, columns; /* of each image, >= 1 */
    size_t days;          /* >= 1 */
    size_t radius;        /* 1 .. 1024; 25 in the paper */
    double low, high;     /* range of the quantity, exclusive; low <= high, may be infinite */
    int rule;             /* KGSM_FUSION_... */
} kgsm_fusion;

/* Number of floats that kgsm_fusion_prepare writes, and that one call of kgsm_fusion_run needs as
 * scratch, with the tier in use; 0 for an invalid shape. */
KGSM_API size_t kgsm_fusion_prepared_floats(const kgsm_fusion *fusion);
KGSM_API size_t kgsm_fusion_scratch_floats(const kgsm_fusion *fusion);

/* Lay out the images for the windows, once for a block of rows. A block holds the rows to be fused
 * and up to `radius` rows above and below them, as far as the image reaches.
 *
 *   fine1, coarse1, fine2, coarse2   (rows, columns)
 *   coarse0                          (days, rows, columns)
 *   prepared                         out; threads may share it afterwards
 *
 * KGSM_ERR_NULL, KGSM_ERR_SHAPE, KGSM_ERR_PARAM. */
KGSM_API int kgsm_fusion_prepare(const kgsm_fusion *fusion, const float *fine1,
                                 const float *coarse1, const float *fine2, const float *coarse2,
                                 const float *coarse0, float *prepared);

/* Fuse rows first .. first + count - 1 of the block.
 *
 *   sigma      (2, columns) sigma_1 and sigma_2 of these rows' targets; the paper takes the
 *              sample standard deviation of fine image k over patches of 200 x 200 pixels.
 *              NaN: no pixel is similar
 *   scratch    one per thread
 *   fused      (days, rows, columns) out; only the rows named are written
 *
 * KGSM_ERR_NULL, KGSM_ERR_SHAPE, KGSM_ERR_PARAM. */
KGSM_API int kgsm_fusion_run(const kgsm_fusion *fusion, const float *prepared, size_t first,
                             size_t count, const double *sigma, float *scratch, float *fused);

/* ---- separated text ------------------------------------------------------------------------ */

/* Convert tables as text (CSV) to columns and back. The kernels handle the frequent forms exactly
 * and report every other cell as irregular; the caller reads or writes it by the general path
 * (kgsm_infer/tables/parsing.py and reading.py). A text column of n cells is a buffer of UTF-8 and
 * ends (n): cell i is buffer[ends[i - 1] .. ends[i] - 1], ends[-1] being 0. ends must ascend and
 * not pass the size of the buffer, else KGSM_ERR_INDEX. */

/* Split whole lines into cells, `width` to a line.
 *
 *   text            (size) UTF-8; every line ends in \n or \r\n
 *   most_rows       capacity of begin and length, rows
 *   rows            out, number of lines
 *   begin, length   (most_rows, width) out, bytes of each cell without blanks around it, and
 *                   without the quotes around it
 *
 * KGSM_ERR_TEXT where a line has another number of cells or only empty ones, a cell has a
 * quote or line end within quotes, a control character, an apostrophe first or white space beyond
 * ASCII at an end; begin and length are undefined then. KGSM_ERR_NULL, KGSM_ERR_SHAPE. */
KGSM_API int kgsm_csv_cells(size_t size, const char *text, char separator, size_t width,
                            size_t most_rows, int64_t *rows, int64_t *begin, int64_t *length);

/* Copy the bytes of one column, cell after cell, to buffer (room). begin, length: from
 * kgsm_csv_cells. KGSM_ERR_NULL, KGSM_ERR_SHAPE (column >= width), KGSM_ERR_INDEX (outside the text
 * or beyond the room). */
KGSM_API int kgsm_csv_column(size_t size, const char *text, size_t rows, size_t width,
                             size_t column, const int64_t *begin, const int64_t *length,
                             size_t room, char *buffer);

/* Parse the numbers of a text column, [+-]digits[.digits][e[+-]digits], correctly rounded to
 * double.
 *
 *   values      (n) out; NaN for an empty cell and for an irregular one
 *   irregular   (n) out, 1 for every other cell, and for numbers of more than 19 digits or far
 *               from 1
 *
 * KGSM_ERR_NULL, KGSM_ERR_INDEX. */
KGSM_API int kgsm_text_floats(size_t size, const char *buffer, size_t n, const int64_t *ends,
                              double *values, uint8_t *irregular);

/* Parse dates to seconds since 1970: YYYY-MM-DD, or with [T ]HH:MM[:SS] and an optional Z, years
 * 1900 to 2100; 0 and irregular = 1 for every other cell. Both (n). KGSM_ERR_NULL, KGSM_ERR_INDEX. */
KGSM_API int kgsm_text_dates(size_t size, const char *buffer, size_t n, const int64_t *ends,
                             int64_t *seconds, uint8_t *irregular);

/* Number the distinct cells of a text column from 0, in order of first appearance.
 *
 *   table    (slots) scratch; slots is a power of two above n
 *   codes    (n) out
 *   count    out, number of distinct cells
 *
 * KGSM_ERR_NULL, KGSM_ERR_SHAPE (slots), KGSM_ERR_INDEX. */
KGSM_API int kgsm_text_codes(size_t size, const char *buffer, size_t n, const int64_t *ends,
                             size_t slots, int64_t *table, int64_t *codes, int64_t *count);

/* Most characters that kgsm_float_text writes for one number. */
#define KGSM_FLOAT_TEXT 24

/* Write the shortest decimal text that reads back as each float, as NumPy does; NaN is empty.
 *
 *   buffer      (n * KGSM_FLOAT_TEXT) out          ends  (n) out
 *   irregular   (n) out, 1 and no text for numbers outside +-2e-4 .. 1e6, powers of two, and
 *               those whose digits double arithmetic cannot decide
 *
 * KGSM_ERR_NULL. */
KGSM_API int kgsm_float_text(size_t n, const float *values, char *buffer, int64_t *ends,
                             uint8_t *irregular);

/* Return KGSM_OK where every cell may be written unchanged: no quote, comma or control character,
 * and no leading sign that a spreadsheet would run as a formula; else KGSM_ERR_TEXT.
 * KGSM_ERR_NULL, KGSM_ERR_INDEX. */
KGSM_API int kgsm_text_is_plain(size_t size, const char *buffer, size_t n, const int64_t *ends);

/* Write cell i of a column and a terminator at text[at[i]] and move at[i] past them. Call it for
 * each column of a table in turn. at (n), text (room). KGSM_ERR_NULL, KGSM_ERR_INDEX (a cell has
 * no room; nothing is written). */
KGSM_API int kgsm_csv_put(size_t size, const char *buffer, size_t n, const int64_t *ends,
                          char terminator, int64_t *at, size_t room, char *text);

#ifdef __cplusplus
}
#endif

#endif
