/* 3x3 convolution of pixels doubled both ways (nearest), computed before the doubling.
 *
 * In a row a, b, c, d, ... that becomes a, a, b, b, c, c, ... with weights u, v, w the two outputs
 * over b are u a + (v + w) b and (u + v) b + w c, that is S b + u (a - b) and S b - w (b - c) with
 * S = u + v + w. So S b and the differences times u and times -w give all: three products for two
 * outputs, nine for four in two dimensions where the plain way has 36. */

#ifndef ALLAPRIMA_UPSAMPLING_H
#define ALLAPRIMA_UPSAMPLING_H

#include "painting.h"

enum {
    STRIDE = 4 * ROWS * (LANES == 16 ? 1 : 2), /* pixels of a block's row, with one for the right edge */
    STRIP = 16,                                /* its rows */
    /* Products of a pixel, in couts: of itself, of differences across, down, and both */
    SELF = 0, RIGHT = 1, BELOW = 3, BOTH = 5, PRODUCTS = 9,
};

/* Memory of a block: two rows of x, a row of each kind of differences, products of two rows */
typedef struct {
    float *rows[2], *m[2];
    char *v;
} Strip;

/* Row k of x and its differences with the row above: rows (STRIDE + 1, cin), v (4, STRIDE, cin).
 * The right edge counts: pixel 0 of v is pixel 1 of rows. */
INLINE void enter_row(const Layer *l, const Strip *strip, int k, int count, const int low) {
    const float *now = strip->rows[k & 1], *above = strip->rows[~k & 1];
    size_t plane = (size_t)STRIDE * l->cin;
    for (size_t i = 0; i < (size_t)count * l->cin; i += LANES) {
        floats a = load(above, i, 0), b = load(above, i + l->cin, 0);
        floats c = load(now, i, 0), d = load(now, i + l->cin, 0);
        store(strip->v, i, d, low);
        store(strip->v, plane + i, c - d, low);
        store(strip->v, 2 * plane + i, b - d, low);
        store(strip->v, 3 * plane + i, (a - b) - (c - d), low);
    }
}

/* Products of row k; only those of differences with the row above, which row k - 1 needs, if
 * last. */
INLINE void multiply_strip(const Layer *l, const Strip *strip, int k, int count, int last,
                           const int low) {
    static const int starts[] = {SELF, RIGHT, BELOW, BOTH, PRODUCTS};
    const size_t size = low ? 2 : 4, square = (size_t)l->cin * l->cout;
    for (int kind = last ? 2 : 0; kind < 4; kind++)
        multiply_all(strip->v + size * kind * STRIDE * l->cin, l->cin, 1, 0, l->cin, count,
                     (const char *)l->weights + size * starts[kind] * square,
                     (starts[kind + 1] - starts[kind]) * l->cout,
                     strip->m[k & 1] + starts[kind] * l->cout, (size_t)PRODUCTS * l->cout, low);
}

/* The two rows of y over row k, once row k + 1 is multiplied */
INLINE void leave_rows(const Layer *l, const Strip *strip, int k, int left, int count, Sums *sums,
                       int begin, const int low) {
    const float *now = strip->m[k & 1], *below = strip->m[~k & 1];
    size_t n = l->cout, pixel = PRODUCTS * n, width = 2 * (size_t)l->width;
    for (size_t c = 0; c < n; c += LANES) {
        Sums s = sums[c / LANES];
        for (int j = 0; j < count; j++) {
            const float *m = now + j * pixel + c, *right = m + pixel;
            const float *under = below + j * pixel + c, *corner = under + pixel;
            floats self = load(m, SELF * n, 0);
            floats out[4] = {
                self + load(m, RIGHT * n, 0) + load(m, BELOW * n, 0) + load(m, BOTH * n, 0),
                self + load(right, (RIGHT + 1) * n, 0) + load(m, BELOW * n, 0) +
                    load(right, (BOTH + 1) * n, 0),
                self + load(m, RIGHT * n, 0) + load(under, (BELOW + 1) * n, 0) +
                    load(under, (BOTH + 2) * n, 0),
                self + load(right, (RIGHT + 1) * n, 0) + load(under, (BELOW + 1) * n, 0) +
                    load(corner, (BOTH + 3) * n, 0),
            };
            if (begin && j == 0) s.first = out[0];
            for (int q = 0; q < 4; q++) {
                size_t row = 2 * (size_t)k + q / 2, column = 2 * (size_t)(left + j) + q % 2;
                add_to(&s, out[q]);
                store(l->y, (row * width + column) * n + c, out[q], low);
            }
        }
        sums[c / LANES] = s;
    }
}

/* Weights: (cin, 1, 2, 2 and 4 cout) for itself, differences across, down, both; see above. */
INLINE int upsampled_layer(const Layer *l, const int low) {
    const int adds = 1, most = STRIDE - 1;
    int across = (l->width + most - 1) / most;
    int blocks = (l->end - l->begin + STRIP - 1) / STRIP * across;
    size_t of_row = align(sizeof(float) * (STRIDE + 1) * l->cin);
    size_t of_v = align(sizeof(float) * 4 * STRIDE * l->cin);
    size_t of_m = align(sizeof(float) * STRIDE * PRODUCTS * l->cout);
    size_t bytes = 2 * of_row + 2 * of_m + of_v + sizeof(floats) * 3 * l->cout / LANES;
    void *space = workspace(l, blocks, bytes);
    if (!space) return 0;
#pragma omp parallel for schedule(dynamic) num_threads(l->threads)
    for (int b = 0; b < blocks; b++) {
        char *part = thread_part(l, space, blocks, bytes);
        Strip strip = {{(float *)part, (float *)(part + of_row)},
                       {(float *)(part + 2 * of_row), (float *)(part + 2 * of_row + of_m)},
                       part + 2 * of_row + 2 * of_m};
        Sums *sums = (Sums *)(strip.v + of_v);
        int top = l->begin + b / across * STRIP, left = b % across * most;
        int bottom = at_most(l->end, top + STRIP), count = at_most(l->width - left, most);
        memset(sums, 0, sizeof(floats) * 3 * l->cout / LANES);
        for (int k = top - 1; k <= bottom; k++) {
            gather_row(l, clamp(k, l->height), left - 1, count + 2, 1, strip.rows[k & 1], adds,
                       low, 0);
            if (k < top) continue;
            enter_row(l, &strip, k, count + 1, low);
            multiply_strip(l, &strip, k, count + 1, k == bottom, low);
            if (k > top)
                leave_rows(l, &strip, k - 1, left, count, sums, k == top + 1, low);
        }
        for (int c = 0; c < l->cout; c += LANES)
            write_sums(l, (float *)space + b * record_size(l), sums[c / LANES], c,
                       4 * count * (bottom - top));
    }
    conclude(l, space, blocks);
    free(space);
    return 1;
}

#endif
