# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
"""The door to csrc/: checks buffers, lets go of the GIL, turns codes into ValueError.

Arrays come in and go out as one- or two-dimensional C-contiguous buffers of exactly the
dtype named (float32, float64, int64, uint16); the caller makes the outputs. Nothing here knows
NumPy. Use :mod:`kgsm_infer.kernels`, which broadcasts, converts and allocates.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t


cdef extern from "kgsm.h" nogil:
    int KGSM_OK, KGSM_ERR_INDEX, KGSM_ERR_SHAPE, KGSM_ERR_TEXT, KGSM_FLOAT_TEXT
    int KGSM_VWC_FOLIAGE, KGSM_VWC_COLUMN
    int KGSM_ANGLE_CONSTANT, KGSM_ANGLE_COLUMN, KGSM_ANGLE_NORMALISE
    int KGSM_MISSING_INPUT, KGSM_INPUT_OUT_OF_RANGE, KGSM_SOIL_SIGNAL_LOST
    int KGSM_DENSE_VEGETATION, KGSM_FROZEN_OR_SNOW, KGSM_OUTSIDE_DOMAIN
    int KGSM_FUSION_UNBIASED, KGSM_FUSION_PLAIN, KGSM_FUSION_REGRESSED
    int KGSM_SHORT_HISTORY, KGSM_CONTEXT_MISSING, KGSM_SM_CLIPPED, KGSM_NO_SKILL
    int KGSM_VEGETATION_OLD, KGSM_WET_WITHOUT_RAIN, KGSM_NO_NUMBER

    ctypedef struct kgsm_range:
        double low, high

    ctypedef struct kgsm_wcm:
        double a, b, e
        int vwc_rule
        double stem_kg_m2
        int angle_rule
        double angle_ref_deg, angle_exponent, min_soil_fraction
        kgsm_range sigma0_db, vegetation, angle_deg
        double dense_vwc_kg_m2

    ctypedef struct kgsm_layout:
        size_t steps, dynamic, statics
        const float *mean
        const float *inv_std

    const char *kgsm_strerror(int code)
    const char *kgsm_version()
    int kgsm_choose_tier(const char *name)
    const char *kgsm_tier()
    const char *kgsm_tier_name(size_t i)

    ctypedef struct kgsm_lstm:
        size_t steps, channels, hidden, members, first_static, statics

    size_t kgsm_lstm_prepared_floats(const kgsm_lstm *lstm)
    size_t kgsm_lstm_scratch_floats(const kgsm_lstm *lstm)
    int kgsm_lstm_prepare(
        const kgsm_lstm *lstm, const float *w, const float *r, const float *b,
        const float *head, const float *head_bias, float *prepared)
    int kgsm_lstm_run(
        const kgsm_lstm *lstm, const float *prepared, size_t n, size_t lines,
        const float *tile, float *scratch, float *sm)
    int KGSM_LINK_IDENTITY, KGSM_LINK_NORMAL

    ctypedef struct kgsm_head:
        size_t steps, channels
        const float *weight
        float bias
        int link
        float low, high

    int kgsm_readout(const kgsm_head *head, size_t n, const float *tile, float *sm)
    int kgsm_nearest(
        size_t n, size_t stride, size_t channels, const float *x, size_t count,
        const float *points, float *distance)
    int kgsm_db_to_linear(size_t n, const float *db, float *linear)
    int kgsm_linear_to_db(size_t n, const float *linear, float *db)
    int kgsm_isolate(
        const kgsm_wcm *wcm, size_t n, const float *sigma0_db, const float *vegetation,
        const float *angle_deg, float *soil_db, float *soil_fraction, uint16_t *flags)
    int kgsm_screen(
        kgsm_range limits, size_t n, const float *sigma0_db, float *screened_db,
        uint16_t *flags)
    int kgsm_invert(double c_db, double d_db, size_t n, const float *soil_db, float *sm)
    int kgsm_pack(
        const kgsm_layout *layout, size_t n, size_t r, const int64_t *rows,
        const float *channel_db, const uint16_t *step_flags, const double *day,
        const float *dynamic, const float *statics, float *tile, uint16_t *window_flags)

    int kgsm_csv_cells(
        size_t size, const char *text, char separator, size_t width, size_t most_rows,
        int64_t *rows, int64_t *begin, int64_t *length)
    int kgsm_csv_column(
        size_t size, const char *text, size_t rows, size_t width, size_t column,
        const int64_t *begin, const int64_t *length, size_t room, char *buffer)
    int kgsm_text_floats(
        size_t size, const char *buffer, size_t n, const int64_t *ends, double *values,
        uint8_t *irregular)
    int kgsm_text_dates(
        size_t size, const char *buffer, size_t n, const int64_t *ends, int64_t *seconds,
        uint8_t *irregular)
    int kgsm_text_codes(
        size_t size, const char *buffer, size_t n, const int64_t *ends, size_t slots,
        int64_t *table, int64_t *codes, int64_t *count)
    int kgsm_float_text(
        size_t n, const float *values, char *buffer, int64_t *ends, uint8_t *irregular)
    int kgsm_text_is_plain(size_t size, const char *buffer, size_t n, const int64_t *ends)
    int kgsm_csv_put(
        size_t size, const char *buffer, size_t n, const int64_t *ends, char terminator,
        int64_t *at, size_t room, char *text)

    ctypedef struct kgsm_fusion:
        size_t rows, columns, days, radius
        double low, high
        int rule

    size_t kgsm_fusion_prepared_floats(const kgsm_fusion *fusion)
    size_t kgsm_fusion_scratch_floats(const kgsm_fusion *fusion)
    int kgsm_fusion_prepare(
        const kgsm_fusion *fusion, const float *fine1, const float *coarse1, const float *fine2,
        const float *coarse2, const float *coarse0, float *prepared)
    int kgsm_fusion_run(
        const kgsm_fusion *fusion, const float *prepared, size_t first, size_t count,
        const double *sigma, float *scratch, float *fused)


#: The flag bits as csrc/kgsm.h has them; a test holds them to kgsm_infer/base/flags.py.
FLAG_BITS = {
    "missing_input": KGSM_MISSING_INPUT,
    "input_out_of_range": KGSM_INPUT_OUT_OF_RANGE,
    "soil_signal_lost": KGSM_SOIL_SIGNAL_LOST,
    "dense_vegetation": KGSM_DENSE_VEGETATION,
    "frozen_or_snow": KGSM_FROZEN_OR_SNOW,
    "outside_domain": KGSM_OUTSIDE_DOMAIN,
    "short_history": KGSM_SHORT_HISTORY,
    "context_missing": KGSM_CONTEXT_MISSING,
    "sm_clipped": KGSM_SM_CLIPPED,
    "no_skill": KGSM_NO_SKILL,
    "vegetation_old": KGSM_VEGETATION_OLD,
    "wet_without_rain": KGSM_WET_WITHOUT_RAIN,
}
NO_NUMBER = KGSM_NO_NUMBER

cdef dict VWC_RULES = {"foliage": KGSM_VWC_FOLIAGE, "column": KGSM_VWC_COLUMN}
cdef dict FUSION_RULES = {
    "unbiased": KGSM_FUSION_UNBIASED,
    "plain": KGSM_FUSION_PLAIN,
    "regressed": KGSM_FUSION_REGRESSED,
}
cdef dict ANGLE_RULES = {
    "constant": KGSM_ANGLE_CONSTANT,
    "column": KGSM_ANGLE_COLUMN,
    "normalise": KGSM_ANGLE_NORMALISE,
}


def tier():
    """The set of C kernels in use, e.g. ``portable``."""
    return kgsm_tier().decode("ascii")


def version():
    """Version of the C core that was compiled in."""
    return kgsm_version().decode("ascii")


def tiers():
    """The tiers of this machine, the plainest first."""
    names, i = [], 0
    while kgsm_tier_name(i) != NULL:
        names.append(kgsm_tier_name(i).decode("ascii"))
        i += 1
    return tuple(names)


def choose_tier(name):
    """Use a tier of :func:`tiers`, or the fastest with None. ValueError for another name."""
    if name is None:
        kgsm_choose_tier(NULL)
        return
    encoded = name.encode()
    _check(kgsm_choose_tier(encoded))


def lstm_sizes(
    size_t steps, size_t channels, size_t hidden, size_t members, size_t first_static,
    size_t statics,
):
    """(floats of prepared weights, floats of scratch) with the tier in use."""
    cdef kgsm_lstm lstm = kgsm_lstm(steps, channels, hidden, members, first_static, statics)
    return kgsm_lstm_prepared_floats(&lstm), kgsm_lstm_scratch_floats(&lstm)


def lstm_prepare(
    size_t steps,
    size_t first_static,
    size_t statics,
    const float[:, :, ::1] w not None,
    const float[:, :, ::1] r not None,
    const float[:, ::1] b not None,
    const float[:, ::1] head not None,
    const float[::1] head_bias not None,
    float[::1] prepared not None,
):
    """Weights w (M, 4H, F), r (M, 4H, H), b (M, 8H), head (M, H), head_bias (M) laid out."""
    cdef size_t members = w.shape[0], hidden = head.shape[1]
    cdef kgsm_lstm lstm = kgsm_lstm(
        steps, w.shape[2], hidden, members, first_static, statics)
    cdef int code
    _same_length(4 * hidden, w.shape[1], "w, second axis")
    _same_length(members, r.shape[0], "r")
    _same_length(4 * hidden, r.shape[1], "r, second axis")
    _same_length(hidden, r.shape[2], "r, last axis")
    _same_length(members, b.shape[0], "b")
    _same_length(8 * hidden, b.shape[1], "b, second axis")
    _same_length(members, head.shape[0], "head")
    _same_length(members, head_bias.shape[0], "head_bias")
    _same_length(kgsm_lstm_prepared_floats(&lstm), prepared.shape[0], "prepared")
    if prepared.shape[0] == 0:
        _check(KGSM_ERR_SHAPE)
    code = kgsm_lstm_prepare(
        &lstm, &w[0, 0, 0], &r[0, 0, 0], &b[0, 0], &head[0, 0], &head_bias[0], &prepared[0])
    _check(code)


def lstm_run(
    size_t hidden,
    size_t members,
    size_t first_static,
    size_t statics,
    const float[::1] prepared not None,
    const float[:, :, ::1] tile not None,
    float[::1] scratch not None,
    float[::1] sm not None,
):
    """sm (n,) of a tile (T, n, F); the GIL is let go."""
    cdef kgsm_lstm lstm = kgsm_lstm(
        tile.shape[0], tile.shape[2], hidden, members, first_static, statics)
    cdef size_t n = tile.shape[1]
    cdef int code
    _same_length(kgsm_lstm_prepared_floats(&lstm), prepared.shape[0], "prepared")
    _same_length(kgsm_lstm_scratch_floats(&lstm), scratch.shape[0], "scratch")
    _same_length(n, sm.shape[0], "sm")
    if n == 0:
        return
    with nogil:
        code = kgsm_lstm_run(
            &lstm, &prepared[0], n, n, &tile[0, 0, 0], &scratch[0], &sm[0])
    _check(code)


def readout(
    const float[:, ::1] weight not None,
    float bias,
    limits,
    const float[:, :, ::1] tile not None,
    float[::1] sm not None,
):
    """sm (n,) of the head alone, of a tile (T, n, F) and weight (T, F).

    limits: (low, high) of a head with the normal link, None for the line itself.
    """
    cdef size_t n = tile.shape[1]
    cdef kgsm_head head
    cdef int code
    _same_length(weight.shape[0], tile.shape[0], "tile")
    _same_length(weight.shape[1], tile.shape[2], "tile, last axis")
    _same_length(n, sm.shape[0], "sm")
    if n == 0:
        return
    head.steps, head.channels = weight.shape[0], weight.shape[1]
    head.weight, head.bias = &weight[0, 0], bias
    head.link = KGSM_LINK_IDENTITY if limits is None else KGSM_LINK_NORMAL
    head.low, head.high = (0.0, 1.0) if limits is None else limits
    with nogil:
        code = kgsm_readout(&head, n, &tile[0, 0, 0], &sm[0])
    _check(code)


def nearest(
    const float[:, :] x not None, const float[:, ::1] points not None, float[::1] distance not None
):
    """distance (n,) of x (n, K), whose lines may lie apart, to the nearest of points (K, P)."""
    cdef size_t n = x.shape[0], channels = x.shape[1], apart = channels
    cdef Py_ssize_t size = sizeof(float)
    cdef int code
    _same_length(channels, points.shape[0], "points")
    _same_length(n, distance.shape[0], "distance")
    if n == 0:
        return
    if (channels > 1 and x.strides[1] != size) or (
            n > 1 and (x.strides[0] < size or x.strides[0] % size)):
        raise ValueError("the channels of a line of x must lie side by side")
    if n > 1:
        apart = x.strides[0] // size
    with nogil:
        code = kgsm_nearest(
            n, apart, channels, &x[0, 0], points.shape[1], &points[0, 0], &distance[0])
    _check(code)


def db_to_linear(const float[::1] db not None, float[::1] linear not None):
    """Power from decibels; both (n,) float32."""
    _same_length(db.shape[0], linear.shape[0], "linear")
    cdef int code
    with nogil:
        code = kgsm_db_to_linear(db.shape[0], &db[0], &linear[0])
    _check(code)


def linear_to_db(const float[::1] linear not None, float[::1] db not None):
    """Decibels from power; both (n,) float32."""
    _same_length(linear.shape[0], db.shape[0], "db")
    cdef int code
    with nogil:
        code = kgsm_linear_to_db(linear.shape[0], &linear[0], &db[0])
    _check(code)


def isolate(
    wcm,
    const float[::1] sigma0_db not None,
    const float[::1] vegetation not None,
    const float[::1] angle_deg,
    float[::1] soil_db not None,
    float[::1] soil_fraction not None,
    uint16_t[::1] flags not None,
):
    """Eqs 1, 2, 4, 5, 12 of a :class:`kgsm_infer.kernels.wcm.Wcm`; all (n,); angle_deg or None."""
    cdef kgsm_wcm c_wcm
    cdef size_t n = sigma0_db.shape[0]
    cdef const float *angle = NULL
    cdef int code
    _same_length(n, vegetation.shape[0], "vegetation")
    _same_length(n, soil_db.shape[0], "soil_db")
    _same_length(n, soil_fraction.shape[0], "soil_fraction")
    _same_length(n, flags.shape[0], "flags")
    if angle_deg is not None:
        _same_length(n, angle_deg.shape[0], "angle_deg")
        angle = &angle_deg[0]
    limits = wcm.limits
    c_wcm.a = wcm.a
    c_wcm.b = wcm.b
    c_wcm.e = wcm.e
    c_wcm.vwc_rule = VWC_RULES[wcm.vwc_rule]
    c_wcm.stem_kg_m2 = wcm.stem_kg_m2
    c_wcm.angle_rule = ANGLE_RULES[wcm.angle_rule]
    c_wcm.angle_ref_deg = wcm.angle_ref_deg
    c_wcm.angle_exponent = wcm.angle_exponent
    c_wcm.min_soil_fraction = wcm.min_soil_fraction
    c_wcm.sigma0_db = _range(limits.sigma0_db)
    c_wcm.vegetation = _range(limits.ndvi if wcm.vwc_rule == "foliage" else limits.vwc_kg_m2)
    c_wcm.angle_deg = _range(limits.angle_deg)
    c_wcm.dense_vwc_kg_m2 = limits.dense_vwc_kg_m2
    with nogil:
        code = kgsm_isolate(
            &c_wcm, n, &sigma0_db[0], &vegetation[0], angle, &soil_db[0], &soil_fraction[0],
            &flags[0])
    _check(code)


def screen(
    limits_db,
    const float[::1] sigma0_db not None,
    float[::1] screened_db not None,
    uint16_t[::1] flags not None,
):
    """sigma0_db or NaN outside ``limits_db`` (low, high), and flags; all (n,)."""
    cdef kgsm_range limits = _range(limits_db)
    cdef int code
    _same_length(sigma0_db.shape[0], screened_db.shape[0], "screened_db")
    _same_length(sigma0_db.shape[0], flags.shape[0], "flags")
    with nogil:
        code = kgsm_screen(limits, sigma0_db.shape[0], &sigma0_db[0], &screened_db[0], &flags[0])
    _check(code)


def invert(double c_db, double d_db, const float[::1] soil_db not None, float[::1] sm not None):
    """(soil_db - C) / D; both (n,) float32."""
    cdef int code
    _same_length(soil_db.shape[0], sm.shape[0], "sm")
    with nogil:
        code = kgsm_invert(c_db, d_db, soil_db.shape[0], &soil_db[0], &sm[0])
    _check(code)


def pack(
    const float[::1] mean not None,
    const float[::1] inv_std not None,
    const int64_t[:, ::1] rows not None,
    const float[::1] channel_db not None,
    const uint16_t[::1] step_flags not None,
    const double[::1] day not None,
    const float[:, ::1] dynamic not None,
    const float[:, ::1] statics not None,
    float[:, :, ::1] tile not None,
    uint16_t[::1] window_flags not None,
):
    """The tile (T, n, F) and flags (n,) of windows rows (n, T); see kgsm.h for the rest.

    T, Fd and Fs are read off the shapes of rows, dynamic (r, Fd) and statics (n, Fs).
    """
    cdef size_t n = rows.shape[0], r = channel_db.shape[0]
    cdef kgsm_layout layout
    cdef int code
    layout.steps = rows.shape[1]
    layout.dynamic = dynamic.shape[1]
    layout.statics = statics.shape[1]
    layout.mean = &mean[0]
    layout.inv_std = &inv_std[0]
    cdef size_t scaled = 1 + layout.dynamic + layout.statics + 1
    _same_length(scaled, mean.shape[0], "mean")
    _same_length(scaled, inv_std.shape[0], "inv_std")
    _same_length(r, step_flags.shape[0], "step_flags")
    _same_length(r, day.shape[0], "day")
    _same_length(r, dynamic.shape[0], "dynamic")
    _same_length(n, statics.shape[0], "statics")
    _same_length(layout.steps, tile.shape[0], "tile")
    _same_length(n, tile.shape[1], "tile, second axis")
    _same_length(scaled + 1, tile.shape[2], "tile, last axis")
    _same_length(n, window_flags.shape[0], "window_flags")
    with nogil:
        code = kgsm_pack(
            &layout, n, r, &rows[0, 0], &channel_db[0], &step_flags[0], &day[0],
            &dynamic[0, 0], &statics[0, 0], &tile[0, 0, 0], &window_flags[0])
    if code == KGSM_ERR_INDEX:
        raise ValueError(_first_bad_row(rows, r))
    _check(code)


def fusion_sizes(size_t rows, size_t columns, size_t days, size_t radius):
    """(floats of the planes, floats of scratch) with the tier in use."""
    cdef kgsm_fusion fusion = kgsm_fusion(rows, columns, days, radius, 0, 0, 0)
    return kgsm_fusion_prepared_floats(&fusion), kgsm_fusion_scratch_floats(&fusion)


def fusion_prepare(
    size_t radius,
    const float[:, ::1] fine1 not None,
    const float[:, ::1] coarse1 not None,
    const float[:, ::1] fine2 not None,
    const float[:, ::1] coarse2 not None,
    const float[:, :, ::1] coarse0 not None,
    float[::1] prepared not None,
):
    """Images (rows, columns) and coarse0 (days, rows, columns) laid out for the windows."""
    cdef size_t rows = coarse0.shape[1], columns = coarse0.shape[2]
    cdef kgsm_fusion fusion = kgsm_fusion(rows, columns, coarse0.shape[0], radius, 0, 0, 0)
    cdef int code
    for name, image in (
            ("fine1", fine1), ("coarse1", coarse1), ("fine2", fine2), ("coarse2", coarse2)):
        _same_length(rows, image.shape[0], name)
        _same_length(columns, image.shape[1], f"{name}, second axis")
    if kgsm_fusion_prepared_floats(&fusion) == 0:
        _check(KGSM_ERR_SHAPE)
    _same_length(kgsm_fusion_prepared_floats(&fusion), prepared.shape[0], "prepared")
    with nogil:
        code = kgsm_fusion_prepare(
            &fusion, &fine1[0, 0], &coarse1[0, 0], &fine2[0, 0], &coarse2[0, 0],
            &coarse0[0, 0, 0], &prepared[0])
    _check(code)


def fusion_run(
    rule,
    const float[::1] prepared not None,
    size_t first,
    size_t count,
    const double[:, ::1] sigma not None,
    float[::1] scratch not None,
    float[:, :, ::1] fused not None,
):
    """Rows first .. first + count - 1 of fused (days, rows, columns) by a
    :class:`kgsm_infer.kernels.fusion.Fusion`; the GIL is let go."""
    cdef kgsm_fusion fusion = kgsm_fusion(
        fused.shape[1], fused.shape[2], fused.shape[0], rule.radius, rule.low, rule.high,
        FUSION_RULES[rule.rule])
    cdef int code
    _same_length(kgsm_fusion_prepared_floats(&fusion), prepared.shape[0], "prepared")
    _same_length(kgsm_fusion_scratch_floats(&fusion), scratch.shape[0], "scratch")
    _same_length(2, sigma.shape[0], "sigma")
    _same_length(fusion.columns, sigma.shape[1], "sigma, second axis")
    if prepared.shape[0] == 0:
        _check(KGSM_ERR_SHAPE)
    with nogil:
        code = kgsm_fusion_run(
            &fusion, &prepared[0], first, count, &sigma[0, 0], &scratch[0], &fused[0, 0, 0])
    _check(code)


cdef kgsm_range _range(pair) except *:
    cdef kgsm_range limits
    limits.low, limits.high = pair
    return limits


cdef str _first_bad_row(const int64_t[:, ::1] rows, Py_ssize_t r):
    cdef Py_ssize_t i, t
    for i in range(rows.shape[0]):
        for t in range(rows.shape[1]):
            if rows[i, t] < -1 or rows[i, t] >= r:
                return f"window rows must lie in -1..{r - 1}, window {i} step {t} is {rows[i, t]}"
    return kgsm_strerror(KGSM_ERR_INDEX).decode("ascii")


cdef int _same_length(Py_ssize_t expected, Py_ssize_t got, str name) except -1:
    if got != expected:
        raise ValueError(f"{name} has {got} elements, expected {expected}")
    return 0


cdef int _check(int code) except -1:
    if code != KGSM_OK:
        raise ValueError(kgsm_strerror(code).decode("ascii"))
    return 0


# -- separated text -----------------------------------------------------------------------------

FLOAT_TEXT = KGSM_FLOAT_TEXT


def csv_cells(const unsigned char[::1] text, int separator, int64_t[:, ::1] begin,
              int64_t[:, ::1] length):
    """Find the cells of whole lines; returns the number of rows, or -1 for irregular text."""
    if begin.shape[0] != length.shape[0] or begin.shape[1] != length.shape[1]:
        raise ValueError("begin and length differ in shape")
    cdef int64_t rows = 0
    cdef size_t size = text.shape[0], width = begin.shape[1], most = begin.shape[0]
    cdef const char *at = <const char *>&text[0] if size else NULL
    cdef int64_t *first = &begin[0, 0] if most and width else NULL
    cdef int64_t *count = &length[0, 0] if most and width else NULL
    cdef int code
    with nogil:
        code = kgsm_csv_cells(size, at, <char>separator, width, most, &rows, first, count)
    if code == KGSM_ERR_TEXT:
        return -1
    _check(code)
    return rows


def csv_column(const unsigned char[::1] text, const int64_t[:, ::1] begin,
               const int64_t[:, ::1] length, size_t rows, size_t column,
               unsigned char[::1] buffer):
    """Copy the bytes of one column of the first rows into the buffer."""
    if rows > begin.shape[0] or rows > length.shape[0] or begin.shape[1] != length.shape[1]:
        raise ValueError("more rows than cells")
    cdef size_t size = text.shape[0], width = begin.shape[1], room = buffer.shape[0]
    if not rows:
        return
    cdef const char *at = <const char *>&text[0] if size else NULL
    cdef char *to = <char *>&buffer[0] if room else NULL
    cdef int code
    with nogil:
        code = kgsm_csv_column(
            size, at, rows, width, column, &begin[0, 0], &length[0, 0], room, to)
    _check(code)


def text_floats(const unsigned char[::1] buffer, const int64_t[::1] ends, double[::1] values,
                uint8_t[::1] irregular):
    """Parse the cells of a text column as numbers."""
    cdef size_t n = ends.shape[0], size = buffer.shape[0]
    if values.shape[0] != n or irregular.shape[0] != n:
        raise ValueError("arrays of different lengths")
    if not n:
        return
    cdef const char *at = <const char *>&buffer[0] if size else NULL
    cdef int code
    with nogil:
        code = kgsm_text_floats(size, at, n, &ends[0], &values[0], &irregular[0])
    _check(code)


def text_dates(const unsigned char[::1] buffer, const int64_t[::1] ends, int64_t[::1] seconds,
               uint8_t[::1] irregular):
    """Parse the cells of a text column as dates."""
    cdef size_t n = ends.shape[0], size = buffer.shape[0]
    if seconds.shape[0] != n or irregular.shape[0] != n:
        raise ValueError("arrays of different lengths")
    if not n:
        return
    cdef const char *at = <const char *>&buffer[0] if size else NULL
    cdef int code
    with nogil:
        code = kgsm_text_dates(size, at, n, &ends[0], &seconds[0], &irregular[0])
    _check(code)


def text_codes(const unsigned char[::1] buffer, const int64_t[::1] ends, int64_t[::1] table,
               int64_t[::1] codes):
    """Number the distinct cells of a text column; returns how many there are."""
    cdef size_t n = ends.shape[0], size = buffer.shape[0], slots = table.shape[0]
    if codes.shape[0] != n:
        raise ValueError("arrays of different lengths")
    if not n:
        return 0
    cdef const char *at = <const char *>&buffer[0] if size else NULL
    cdef int64_t count = 0
    cdef int code
    if not slots:
        raise ValueError("no slots")
    with nogil:
        code = kgsm_text_codes(size, at, n, &ends[0], slots, &table[0], &codes[0], &count)
    _check(code)
    return count


def float_text(const float[::1] values, unsigned char[::1] buffer, int64_t[::1] ends,
               uint8_t[::1] irregular):
    """Write floats as text, one after the other."""
    cdef size_t n = values.shape[0]
    if ends.shape[0] != n or irregular.shape[0] != n or buffer.shape[0] < n * KGSM_FLOAT_TEXT:
        raise ValueError("arrays of different lengths")
    if not n:
        return
    cdef int code
    with nogil:
        code = kgsm_float_text(n, &values[0], <char *>&buffer[0], &ends[0], &irregular[0])
    _check(code)


def text_is_plain(const unsigned char[::1] buffer, const int64_t[::1] ends):
    """Return True where every cell may be written to a CSV as it is."""
    cdef size_t n = ends.shape[0], size = buffer.shape[0]
    if not n:
        return True
    cdef const char *at = <const char *>&buffer[0] if size else NULL
    cdef int code
    with nogil:
        code = kgsm_text_is_plain(size, at, n, &ends[0])
    if code == KGSM_ERR_TEXT:
        return False
    _check(code)
    return True


def csv_put(const unsigned char[::1] buffer, const int64_t[::1] ends, int terminator,
            int64_t[::1] at, unsigned char[::1] text):
    """Put the cells of a column and a terminator into the text of a table."""
    cdef size_t n = ends.shape[0], size = buffer.shape[0], room = text.shape[0]
    if at.shape[0] != n:
        raise ValueError("arrays of different lengths")
    if not n:
        return
    cdef const char *source = <const char *>&buffer[0] if size else NULL
    cdef char *to = <char *>&text[0] if room else NULL
    cdef int code
    with nogil:
        code = kgsm_csv_put(size, source, n, &ends[0], <char>terminator, &at[0], room, to)
    _check(code)
