/* Winograd's minimal filtering F(4x4, 3x3) (Lavin & Gray 2016) on channels-last images:
 * Y = A' [U . (B' d B)] A with U = G g G', 36 products for 16 outputs where a direct 3x3
 * convolution has 144. Interpolation points: 0, +-P, +-Q, infinity.
 *
 * A convolution is three steps on a block of tiles, whose planes (one for each of the 36 points)
 * stay in the second cache:
 *   tile_in    6x6 pixels of x                      -> a row of each plane v (tile, channel in)
 *   multiply   v (tiles, cin) times a panel of u    -> m (tiles, channels out)
 *   tile_out   a row of each plane m                -> 4x4 pixels of y
 *
 * "low" is bfloat16 for pixels, v and u, with float32 transforms, sums and m. Only where
 * HAS_BFLOAT16. u is packed as (36, cout / COLS, cin, COLS) in float32, as
 * (36, cout / COLS, cin / 2, COLS, 2) in bfloat16. */

#ifndef ALLAPRIMA_WINOGRAD_H
#define ALLAPRIMA_WINOGRAD_H

#include <stddef.h>
#include <stdint.h>

#if defined(__AVX512BF16__) && defined(__AVX512F__)
#include <immintrin.h>
#define HAS_BFLOAT16 1
#else
#define HAS_BFLOAT16 0
#endif

/* A micro-kernel's sums, ROWS tiles x VECTORS vectors, fill the vector registers. */
#ifdef __AVX512F__
enum { LANES = 16, ROWS = 12 };
#else
enum { LANES = 8, ROWS = 6 }; /* a compiler splits vectors where the machine's are narrower */
#endif
/* It takes DEPTH input channels at a time, whose weights fit in the first cache. */
enum { COLS = 16, VECTORS = 2, DEPTH = 256, POINTS = 36, PIXELS = 16 };

typedef float floats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t bits __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
typedef int32_t pair __attribute__((may_alias, aligned(2)));

#define INLINE static inline __attribute__((always_inline))

/* Lavin & Gray take 1 and 2; nearer to each other and to 1 in the geometric mean, rounding errors
 * are a quarter. Both, their squares and their cubes are exact. */
static const float P = 0.75f, Q = 1.5f, PP = 0.75f * 0.75f, QQ = 1.5f * 1.5f;

/* LANES values at index of an array of float32 or, if low, bfloat16 */
INLINE floats load(const void *array, size_t index, const int low) {
    if (!low) return *(const floats *)((const float *)array + index);
    halves high = *(const halves *)((const uint16_t *)array + index);
#if HAS_BFLOAT16
    return (floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)high), 16);
#else
    return (floats)(__builtin_convertvector(high, bits) << 16);
#endif
}

INLINE void store(void *array, size_t index, floats value, const int low) {
    if (!low) {
        *(floats *)((float *)array + index) = value;
        return;
    }
#if HAS_BFLOAT16
    __m256bh rounded = _mm512_cvtneps_pbh((__m512)value);
    *(halves *)((uint16_t *)array + index) = (halves)rounded;
#endif
}

/* value where gate is positive (or not a number), as torch's ReLU and its gradient have it */
INLINE floats keep_where(floats value, floats gate) {
    return (floats)((bits)value & ~(bits)(gate <= 0.0f));
}

/* B' in: six values, at a stride, to six */
INLINE void transform_in(const floats *in, floats *out, const int stride) {
    floats x1 = in[stride], x2 = in[2 * stride], x3 = in[3 * stride], x4 = in[4 * stride];
    floats even_p = x4 - QQ * x2, odd_p = P * (x3 - QQ * x1);
    floats even_q = x4 - PP * x2, odd_q = Q * (x3 - PP * x1);
    out[0] = PP * QQ * in[0] - (PP + QQ) * x2 + x4;
    out[stride] = even_p + odd_p;
    out[2 * stride] = even_p - odd_p;
    out[3 * stride] = even_q + odd_q;
    out[4 * stride] = even_q - odd_q;
    out[5 * stride] = PP * QQ * x1 - (PP + QQ) * x3 + in[5 * stride];
}

/* A' in: six neighbouring values to four, at a stride */
INLINE void transform_out(const floats *in, floats *out, const int stride) {
    floats sum_p = in[1] + in[2], sum_q = in[3] + in[4];
    floats dif_p = in[1] - in[2], dif_q = in[3] - in[4];
    out[0] = in[0] + sum_p + sum_q;
    out[stride] = P * dif_p + Q * dif_q;
    out[2 * stride] = PP * sum_p + QQ * sum_q;
    out[3 * stride] = P * PP * dif_p + Q * QQ * dif_q + in[5];
}

/* LANES channels of a tile d (6x6 pixels, row by row; overwritten) to v[at + p * plane] */
INLINE void tile_in(floats *d, void *v, size_t at, size_t plane, const int low) {
    floats e[POINTS];
    for (int j = 0; j < 6; j++) transform_in(d + j, e + j, 6);
    for (int i = 0; i < 6; i++) {
        transform_in(e + 6 * i, d + 6 * i, 1);
        for (int p = 6 * i; p < 6 * i + 6; p++) store(v, at + p * plane, d[p], low);
    }
}

/* LANES channels of m[p * plane] to a tile y (4x4 pixels, row by row) */
INLINE void tile_out(const float *m, size_t plane, floats *y) {
    floats d[6], e[24]; /* e: 6 rows of 4 */
    for (int i = 0; i < 6; i++) {
        for (int j = 0; j < 6; j++) d[j] = load(m, (6 * i + j) * plane, 0);
        transform_out(d, e + 4 * i, 1);
    }
    for (int j = 0; j < 4; j++) {
        for (int i = 0; i < 6; i++) d[i] = e[4 * i + j];
        transform_out(d, y + j, 4);
    }
}

/* c (ROWS, count * LANES) = [c +] a (ROWS, depth) b (depth, count * LANES), kept in registers.
 * a: rows at a stride. b: panels of COLS columns, each panel_size elements. c: float32. */
INLINE void multiply(const void *a, size_t stride, const void *b, size_t panel_size, int depth,
                     float *c, size_t c_stride, int add, const int count, const int low) {
    floats sum[ROWS][VECTORS] = {{{0}}};
    for (int k = 0; k < depth; k += low ? 2 : 1) {
        floats columns[VECTORS];
        for (int n = 0; n < count; n++) {
            size_t at = n * LANES / COLS * panel_size + (size_t)k * COLS + n * LANES % COLS;
            /* a low vector is LANES pairs, of the same size in memory */
            columns[n] = low ? *(const floats *)((const uint16_t *)b + at) : load(b, at, 0);
        }
#pragma GCC unroll 12
        for (int i = 0; i < ROWS; i++) {
            if (!low) {
                float value = ((const float *)a)[i * stride + k];
                for (int n = 0; n < count; n++) sum[i][n] += value * columns[n];
            }
#if HAS_BFLOAT16
            if (low) {
                pair value = *(const pair *)((const uint16_t *)a + i * stride + k);
                for (int n = 0; n < count; n++)
                    sum[i][n] = (floats)_mm512_dpbf16_ps(
                        (__m512)sum[i][n], (__m512bh)_mm512_set1_epi32(value),
                        (__m512bh)columns[n]);
            }
#endif
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < ROWS; i++)
        for (int n = 0; n < count; n++) {
            size_t at = i * c_stride + n * LANES;
            if (add) sum[i][n] += load(c, at, 0);
            store(c, at, sum[i][n], 0);
        }
}

/* m (36 planes of tiles, width of them used) = v (36 planes of tiles, cin) times the columns
 * first ... first + width - 1 of u. tiles: of ROWS. Strides of m's and v's tiles and planes. */
INLINE void multiply_planes(const void *v, size_t v_plane, const void *u, int cin, int cout,
                            int first, int width, float *m, size_t m_plane, size_t m_stride,
                            int tiles, const int low) {
    const size_t size = low ? 2 : 4, panel_size = (size_t)cin * COLS;
    enum { WIDE = VECTORS * LANES };
    for (int p = 0; p < POINTS; p++)
        for (int o = 0; o < width; o += WIDE)
            for (int k = 0; k < cin; k += DEPTH) {
                const char *b = (const char *)u +
                    size * (((size_t)p * cout + first + o) * cin + (size_t)k * COLS);
                int depth = cin - k < DEPTH ? cin - k : DEPTH;
                for (int t = 0; t < tiles; t += ROWS) {
                    const char *a = (const char *)v + size * (p * v_plane + (size_t)t * cin + k);
                    float *c = m + p * m_plane + t * m_stride + o;
                    if (width - o >= WIDE)
                        multiply(a, cin, b, panel_size, depth, c, m_stride, k > 0, VECTORS, low);
                    else
                        multiply(a, cin, b, panel_size, depth, c, m_stride, k > 0, COLS / LANES,
                                 low);
                }
            }
}

#endif
