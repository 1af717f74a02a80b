/* 3x3 convolution (stride 1, padding 1) of channels-last float32 images by Winograd's minimal
 * filtering F(4x4, 3x3): Lavin & Gray 2016, Y = A' [U . (B' d B)] A with U = G g G', 36 products
 * for 16 outputs, not 144. Interpolation points: 0, +-P, +-Q (macros), infinity. */

#include <omp.h>
#include <string.h>

/* Unaligned vectors of 8; a compiler splits them where the machine's are narrower. */
typedef float floats __attribute__((vector_size(32), aligned(4), may_alias));
typedef int bits __attribute__((vector_size(32), aligned(4), may_alias));

/* The innermost product is of ROWS tiles and COLS channels, to use 15 of 16 vector registers;
 * it takes DEPTH input channels at a time, whose DEPTH x COLS weights fit in the first cache. */
/* Lavin & Gray take 1 and 2; these keep rounding errors small, see winograd.py. */
enum { LANES = 8, ROWS = 6, COLS = 16, DEPTH = 256, POINTS = 36, PIXELS = 16 };
static const float P = 0.75f, Q = 1.5f;
static const float PP = P * P, QQ = Q * Q;
static inline floats load(const float *at) { return *(const floats *)at; }
static inline void store(float *at, floats value) { *(floats *)at = value; }

/* value where gate is positive (or not a number), as torch's ReLU and its gradient have it */
static inline floats keep_where(floats value, floats gate) {
    return (floats)((bits)value & ~(gate <= 0.0f));
}

/* out = B' in, a row or a column (stride 1 or 6) of a tile */
static inline void transform_input(const floats *in, floats *out, int stride) {
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

/* out = A' in, six values to four */
static inline void transform_output(const floats *in, floats *out, int stride) {
    floats sum_p = in[stride] + in[2 * stride], sum_q = in[3 * stride] + in[4 * stride];
    floats dif_p = in[stride] - in[2 * stride], dif_q = in[3 * stride] - in[4 * stride];
    out[0] = in[0] + sum_p + sum_q;
    out[stride] = P * dif_p + Q * dif_q;
    out[2 * stride] = PP * sum_p + QQ * sum_q;
    out[3 * stride] = P * PP * dif_p + Q * QQ * dif_q + in[5 * stride];
}

/* c (ROWS, COLS) = [c +] a (ROWS, depth) b (depth, COLS), kept in registers */
static inline void multiply(const float *a, int cin, const float *b, int depth, float *c,
                            int cout, int add) {
    floats sum[ROWS][2] = {{{0}}};
    for (int k = 0; k < depth; k++) {
        floats left = load(b + k * COLS), right = load(b + k * COLS + LANES);
#pragma GCC unroll 6
        for (int i = 0; i < ROWS; i++) {
            sum[i][0] += a[i * cin + k] * left;
            sum[i][1] += a[i * cin + k] * right;
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < ROWS; i++) {
        for (int half = 0; half < 2; half++) {
            float *at = c + i * cout + half * LANES;
            if (add) sum[i][half] += load(at);
            store(at, sum[i][half]);
        }
    }
}

/* One input tile (6x6 pixel pointers) to its column of v; pixels count where gates is positive. */
static void enter(const float **pixels, const float **gates, float *v, size_t plane, int cin) {
    floats d[POINTS], e[POINTS];
    for (int c = 0; c < cin; c += LANES) {
        for (int p = 0; p < POINTS; p++) {
            d[p] = load(pixels[p] + c);
            if (gates) d[p] = keep_where(d[p], load(gates[p] + c));
        }
        for (int j = 0; j < 6; j++) transform_input(d + j, e + j, 6);
        for (int i = 0; i < 6; i++) transform_input(e + 6 * i, d + 6 * i, 1);
        for (int p = 0; p < POINTS; p++) store(v + p * plane + c, d[p]);
    }
}

/* One column of m to its 4x4 output pixels. */
static void leave(const float *m, size_t plane, const float *bias, int relu, float **pixels,
                  int cout) {
    floats d[POINTS], e[24], y[24];
    for (int c = 0; c < cout; c += LANES) {
        for (int p = 0; p < POINTS; p++) d[p] = load(m + p * plane + c);
        for (int j = 0; j < 6; j++) transform_output(d + j, e + j, 6);
        for (int i = 0; i < 4; i++) transform_output(e + 6 * i, y + 4 * i, 1);
        for (int q = 0; q < PIXELS; q++) {
            if (bias) y[q] += load(bias + c);
            if (relu) y[q] = keep_where(y[q], y[q]);
            store(pixels[q] + c, y[q]);
        }
    }
}

/* y (batch, height, width, cout) = x (batch, height, width, cin) * kernel [+ bias], [ReLU].
 * gate: null, or like x: x counts as zero where gate is not positive (a ReLU's gradient).
 * u: the transformed kernel, packed as (36, cout / COLS, cin, COLS). cin and cout: of 16.
 * block: tiles a block, of ROWS. scratch: threads x (36 (block (cin + cout) + 32) + cin + cout). */
void conv3x3(const float *x, const float *gate, const float *u, const float *bias, float *y,
             float *scratch, int batch, int height, int width, int cin, int cout, int relu,
             int block, int threads) {
    int down = (height + 3) / 4, across = (width + 3) / 4, tiles = batch * down * across;
    /* The 16 keep the 36 planes from meeting in the same lines of the cache. */
    size_t v_plane = (size_t)block * cin + 16, m_plane = (size_t)block * cout + 16;
    size_t share = POINTS * (v_plane + m_plane) + cin + cout;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int first = 0; first < tiles; first += block) {
        float *v = scratch + share * omp_get_thread_num(), *m = v + POINTS * v_plane;
        float *outside = m + POINTS * m_plane, *unused = outside + cin;
        int count = tiles - first < block ? tiles - first : block;
        memset(outside, 0, cin * sizeof(float));
        for (int t = 0; t < count; t++) {
            int tile = first + t, top = tile / across % down * 4, left = tile % across * 4;
            size_t corner = (size_t)(tile / (down * across)) * height * width;
            const float *pixels[POINTS], *gates[POINTS];
            for (int p = 0; p < POINTS; p++) {
                int i = top + p / 6 - 1, j = left + p % 6 - 1;
                int inside = i >= 0 && i < height && j >= 0 && j < width;
                size_t at = (corner + (size_t)i * width + j) * cin;
                pixels[p] = inside ? x + at : outside;
                gates[p] = inside && gate ? gate + at : outside;
            }
            enter(pixels, gate ? gates : NULL, v + (size_t)t * cin, v_plane, cin);
        }
        for (int p = 0; p < POINTS; p++)
            for (int k = 0; k < cin; k += DEPTH)
                for (int o = 0; o < cout; o += COLS) {
                    const float *panel = u + ((size_t)p * cout + o) * cin + (size_t)k * COLS;
                    int depth = cin - k < DEPTH ? cin - k : DEPTH;
                    for (int t = 0; t < count; t += ROWS)
                        multiply(v + p * v_plane + (size_t)t * cin + k, cin, panel, depth,
                                 m + p * m_plane + (size_t)t * cout + o, cout, k > 0);
                }
        for (int t = 0; t < count; t++) {
            int tile = first + t, top = tile / across % down * 4, left = tile % across * 4;
            size_t corner = (size_t)(tile / (down * across)) * height * width;
            float *pixels[PIXELS];
            for (int q = 0; q < PIXELS; q++) {
                int i = top + q / 4, j = left + q % 4, inside = i < height && j < width;
                pixels[q] = inside ? y + (corner + (size_t)i * width + j) * cout : unused;
            }
            leave(m + (size_t)t * cout, m_plane, bias, relu, pixels, cout);
        }
    }
}
