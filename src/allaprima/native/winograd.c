/* 3x3 convolution (stride 1, zero padding 0, 1 or 2) of channels-last images, by winograd.h. */

#include <omp.h>
#include <string.h>

#include "winograd.h"

enum { CHUNK = 64 }; /* output channels of m at a time */

/* Of which image a tile is, and its first row and column of y */
typedef struct {
    size_t image;
    int top, left;
} Corner;

INLINE Corner corner_of(int tile, int down, int across) {
    return (Corner){tile / (down * across), tile / across % down * 4, tile % across * 4};
}

/* All channels of one tile of x to its row of v; pixels outside are zero, and so are those where
 * gate, if any, is not positive. */
INLINE void enter(const void *x, const void *gate, Corner at, int height, int width, int cin,
                  int padding, void *v, size_t row, size_t plane, const int low) {
    int top = at.top - padding, left = at.left - padding;
    size_t image = at.image * height * width;
    int all = top >= 0 && left >= 0 && top + 6 <= height && left + 6 <= width;
    for (int c = 0; c < cin; c += LANES) {
        floats d[POINTS];
        if (!all) memset(d, 0, sizeof d);
        for (int i = 0; i < 6; i++)
            for (int j = 0; j < 6; j++) {
                int y_in = top + i, x_in = left + j;
                if (!all && (y_in < 0 || y_in >= height || x_in < 0 || x_in >= width)) continue;
                size_t pixel = (image + (ptrdiff_t)y_in * width + x_in) * cin + c;
                d[6 * i + j] = load(x, pixel, low);
                if (gate) d[6 * i + j] = keep_where(d[6 * i + j], load(gate, pixel, low));
            }
        tile_in(d, v, row + c, plane, low);
    }
}

/* Some channels of one tile of m to its pixels of y, with bias and ReLU. */
INLINE void leave(const float *m, size_t plane, const float *bias, int relu, Corner at, int height,
                  int width, int cout, int first, int count, void *y, const int low) {
    int down = height - at.top < 4 ? height - at.top : 4;
    int across = width - at.left < 4 ? width - at.left : 4;
    size_t corner = ((at.image * height + at.top) * width + at.left) * cout + first;
    for (int c = 0; c < count; c += LANES) {
        floats tile[PIXELS];
        tile_out(m + c, plane, tile);
        floats shift = bias ? load(bias, first + c, 0) : (floats){0};
        for (int i = 0; i < down; i++)
            for (int j = 0; j < across; j++) {
                floats value = tile[4 * i + j] + shift;
                if (relu) value = keep_where(value, value);
                store(y, corner + ((size_t)i * width + j) * cout + c, value, low);
            }
    }
}

INLINE void convolve(const void *x, const void *gate, const void *u, const float *bias, void *y,
                     float *scratch, int batch, int height, int width, int cin, int cout,
                     int padding, int relu, int block, int threads, const int low) {
    int rows = height + 2 * padding - 2, columns = width + 2 * padding - 2;
    int down = (rows + 3) / 4, across = (columns + 3) / 4, tiles = batch * down * across;
    /* The 32 keep the 36 planes from meeting in the same lines of the cache. */
    size_t v_plane = (size_t)block * cin + 32, m_plane = (size_t)block * CHUNK + 32;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int first = 0; first < tiles; first += block) {
        float *v = scratch + POINTS * (v_plane + m_plane) * omp_get_thread_num();
        float *m = v + POINTS * v_plane;
        int count = tiles - first < block ? tiles - first : block;
        for (int t = 0; t < count; t++) {
            Corner at = corner_of(first + t, down, across);
            enter(x, gate, at, height, width, cin, padding, v, (size_t)t * cin, v_plane, low);
        }
        for (int o = 0; o < cout; o += CHUNK) {
            int chunk = cout - o < CHUNK ? cout - o : CHUNK;
            multiply_planes(v, v_plane, u, cin, cout, o, chunk, m, m_plane, CHUNK, count, low);
            for (int t = 0; t < count; t++) {
                Corner at = corner_of(first + t, down, across);
                leave(m + t * CHUNK, m_plane, bias, relu, at, rows, columns, cout, o, chunk, y,
                      low);
            }
        }
    }
}

/* y (batch, height + 2 padding - 2, width + 2 padding - 2, cout) = x (batch, height, width, cin)
 * * kernel [+ bias], [ReLU].
 * gate: null, or like x: x counts as zero where gate is not positive (a ReLU's gradient).
 * u: the transformed kernel. cin and cout: of 16. block: tiles a block, of ROWS.
 * scratch: threads x 36 (block (cin + CHUNK) + 64) floats. */
void conv3x3(const void *x, const void *gate, const void *u, const float *bias, void *y,
             float *scratch, int batch, int height, int width, int cin, int cout, int padding,
             int relu, int block, int threads, int low) {
    if (low)
        convolve(x, gate, u, bias, y, scratch, batch, height, width, cin, cout, padding, relu,
                 block, threads, 1);
    else
        convolve(x, gate, u, bias, y, scratch, batch, height, width, cin, cout, padding, relu,
                 block, threads, 0);
}

/* G in: three values, at a stride, to six */
INLINE void transform_taps(const floats *in, floats *out, const int stride) {
    const float p_scale = 1 / (2 * PP * (PP - QQ)), q_scale = 1 / (2 * QQ * (QQ - PP));
    floats even_p = p_scale * (in[0] + PP * in[2 * stride]), odd_p = p_scale * P * in[stride];
    floats even_q = q_scale * (in[0] + QQ * in[2 * stride]), odd_q = q_scale * Q * in[stride];
    out[0] = in[0] * (1 / (PP * QQ));
    out[stride] = even_p + odd_p;
    out[2 * stride] = even_p - odd_p;
    out[3 * stride] = even_q + odd_q;
    out[4 * stride] = even_q - odd_q;
    out[5 * stride] = in[2 * stride];
}

INLINE void pack(const float *w, void *u, int cin, int cout, int threads, const int low) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int c = 0; c < cin; c++)
        for (int o = 0; o < cout; o += LANES) {
            floats g[18], d[POINTS]; /* 6 rows of 3 */
            for (int tap = 0; tap < 9; tap++)
                g[tap] = load(w, ((size_t)c * 9 + tap) * cout + o, 0);
            for (int j = 0; j < 3; j++) transform_taps(g + j, d + j, 3);
            memcpy(g, d, sizeof g);
            for (int i = 0; i < 6; i++) transform_taps(g + 3 * i, d + 6 * i, 1);
            for (int p = 0; p < POINTS; p++) {
                size_t panel = ((size_t)p * cout + o) / COLS * COLS * cin + o % COLS;
                if (!low) store(u, panel + (size_t)c * COLS, d[p], 0);
#if HAS_BFLOAT16
                if (low) {
                    uint16_t rounded[LANES];
                    store(rounded, 0, d[p], 1);
                    uint16_t *at = (uint16_t *)u + panel + o % COLS + (size_t)(c & ~1) * COLS;
                    for (int n = 0; n < LANES; n++) at[2 * n + (c & 1)] = rounded[n];
                }
#endif
            }
        }
}

/* u, packed as in winograd.h, of a kernel w (cin, 3, 3, cout) */
void transform_kernel(const float *w, void *u, int cin, int cout, int threads, int low) {
    if (low)
        pack(w, u, cin, cout, threads, 1);
    else
        pack(w, u, cin, cout, threads, 0);
}

int has_bfloat16(void) { return HAS_BFLOAT16; }
