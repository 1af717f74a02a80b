/* 3x3 convolution of an image of twice the size, nearest or bilinear, computed before the doubling.
 *
 * In a row a, b, c, d, ... that becomes a, a, b, b, c, c, ... with weights u, v, w the two outputs
 * over b are u a + (v + w) b and (u + v) b + w c, that is S b + u (a - b) and S b - w (b - c) with
 * S = u + v + w. So S b and the differences times u and times -w give all: three products for two
 * outputs, nine for four in two dimensions where the plain way has 36.
 *
 * The bilinear image is the nearest one smoothed by 1/4, 1/2, 1/4, which may as well be done to
 * the outputs: no product is added. What is smoothed so before it is doubled, is while it is
 * gathered. Beyond its borders the image goes on as it ends. */

#ifndef ALLAPRIMA_UPSAMPLING_H
#define ALLAPRIMA_UPSAMPLING_H

#include "painting.h"

enum {
    /* Pixels of a block's row, with one more at either side */
    STRIDE = 4 * ROWS * (LANES == 16 ? 1 : 2),
    MOST = STRIDE - 2,
    STRIP = 16, /* its rows */
    /* Products of a pixel, in couts: of itself, of differences across, down, and both */
    SELF = 0, RIGHT = 1, BELOW = 3, BOTH = 5, PRODUCTS = 9,
    PLANES = 3, /* of a row: its own, and what it adds to the outputs below and above it */
    KEPT = 3,   /* rows */
};

/* Memory of a block: three rows as gathered and their sum, two rows of x, a row of each kind of
 * differences, of their products, and rows of twice the width */
typedef struct {
    float *gathered[3], *sum, *rows[2], *m, *wide;
    char *v;
} Strip;

INLINE void gather_clamped(const Layer *l, int k, int left, int count, float *out,
                           const int adds, const int low) {
    gather_row(l, clamp(k, l->height), left, count, 1, out, adds, low, 0);
}

/* Row k of x, from column left on: as it is, or smoothed, once for every row from ``begin`` on */
INLINE void read_row(const Layer *l, const Strip *strip, int k, int begin, int left, int count,
                     const int smooth, const int adds, const int low) {
    float *row = strip->rows[k & 1], *sum = strip->sum;
    if (!smooth) {
        gather_clamped(l, k, left, count, row, adds, low);
        return;
    }
    for (int i = k == begin ? k - 1 : k + 1; i <= k + 1; i++)
        gather_clamped(l, i, left - 1, count + 2, strip->gathered[(i + 3) % 3], adds, low);
    const float *above = strip->gathered[(k + 2) % 3], *own = strip->gathered[(k + 3) % 3];
    const float *below = strip->gathered[(k + 4) % 3];
    for (size_t i = 0; i < (size_t)(count + 2) * l->cin; i += LANES)
        store(sum, i, load(above, i, 0) + 2 * load(own, i, 0) + load(below, i, 0), 0);
    for (size_t i = 0; i < (size_t)count * l->cin; i += LANES) {
        floats middle = load(sum, i + l->cin, 0);
        store(row, i, (load(sum, i, 0) + 2 * middle + load(sum, i + 2 * l->cin, 0)) * (1 / 16.0f),
              0);
    }
}

/* Row k of x and, if not the first, its differences with the row above: rows (STRIDE + 1, cin),
 * v (4, STRIDE, cin). Pixel 0 of v is pixel 1 of rows. */
INLINE void enter_row(const Layer *l, const Strip *strip, int k, int count, int first,
                      const int low) {
    const float *now = strip->rows[k & 1], *above = strip->rows[~k & 1];
    size_t plane = (size_t)STRIDE * l->cin;
    for (size_t i = 0; i < (size_t)count * l->cin; i += LANES) {
        floats c = load(now, i, 0), d = load(now, i + l->cin, 0);
        store(strip->v, i, d, low);
        store(strip->v, plane + i, c - d, low);
        if (first) continue;
        floats a = load(above, i, 0), b = load(above, i + l->cin, 0);
        store(strip->v, 2 * plane + i, b - d, low);
        store(strip->v, 3 * plane + i, (a - b) - (c - d), low);
    }
}

/* Products of a row; of the first, only those without the row above */
INLINE void multiply_row(const Layer *l, const Strip *strip, int count, int first,
                         const int low) {
    static const int starts[] = {SELF, RIGHT, BELOW, BOTH, PRODUCTS};
    const size_t size = low ? 2 : 4, square = (size_t)l->cin * l->cout;
    for (int kind = 0; kind < (first ? 2 : 4); kind++)
        multiply_all(strip->v + size * kind * STRIDE * l->cin, l->cin, 1, 0, l->cin, count,
                     (const char *)l->weights + size * starts[kind] * square,
                     (starts[kind + 1] - starts[kind]) * l->cout,
                     strip->m + starts[kind] * l->cout, (size_t)PRODUCTS * l->cout, low);
}

INLINE float *wide_row(const Layer *l, const Strip *strip, int k, int plane) {
    return strip->wide + (size_t)((k + KEPT) % KEPT * PLANES + plane) * 2 * MOST * l->cout;
}

/* Outputs of row k across: (PLANES, 2 count, cout), four times as large if smooth */
INLINE void widen_row(const Layer *l, const Strip *strip, int k, int count, int first,
                      const int smooth) {
    static const int starts[PLANES][3] = {
        {SELF, RIGHT, RIGHT + 1}, {BELOW, BOTH, BOTH + 1}, {BELOW + 1, BOTH + 2, BOTH + 3}};
    size_t n = l->cout, pixel = PRODUCTS * n;
    for (int plane = 0; plane < (first ? 1 : PLANES); plane++) {
        const float *own = strip->m + starts[plane][0] * n;
        const float *left = strip->m + starts[plane][1] * n;
        const float *right = strip->m + starts[plane][2] * n;
        float *wide = wide_row(l, strip, k, plane);
        for (size_t c = 0; c < n; c += LANES) {
            floats before = load(own, c, 0) + load(right, pixel + c, 0);
            floats even = load(own, pixel + c, 0) + load(left, pixel + c, 0);
            for (int j = 0; j < count; j++) {
                size_t at = (j + 1) * pixel + c, next = at + pixel;
                floats odd = load(own, at, 0) + load(right, next, 0);
                floats after = load(own, next, 0) + load(left, next, 0);
                floats both[] = {even, odd};
                if (smooth) {
                    both[0] = before + 2 * even + odd;
                    both[1] = even + 2 * odd + after;
                }
                store(wide, 2 * j * n + c, both[0], 0);
                store(wide, (2 * j + 1) * n + c, both[1], 0);
                before = odd, even = after;
            }
        }
    }
}

/* The two rows of y over row k, once row k + 1 is widened */
INLINE void leave_rows(const Layer *l, const Strip *strip, int k, int left, int count, Sums *sums,
                       int begin, const int smooth, const int low) {
    size_t n = l->cout, width = 2 * (size_t)l->width;
    const float *before = wide_row(l, strip, k - 1, 0), *own = wide_row(l, strip, k, 0);
    const float *above = wide_row(l, strip, k, 1), *before_below = wide_row(l, strip, k, 2);
    const float *after = wide_row(l, strip, k + 1, 0), *after_above = wide_row(l, strip, k + 1, 1);
    const float *below = wide_row(l, strip, k + 1, 2);
    for (size_t c = 0; c < n; c += LANES) {
        Sums s = sums[c / LANES];
        for (int j = 0; j < 2 * count; j++) {
            size_t i = j * n + c, at = (2 * (size_t)k * width + 2 * (size_t)left + j) * n + c;
            floats middle = load(own, i, 0);
            floats even = middle + load(above, i, 0), odd = middle + load(below, i, 0);
            if (smooth) {
                floats first = load(before, i, 0) + load(before_below, i, 0);
                floats last = load(after, i, 0) + load(after_above, i, 0);
                floats smooth_even = (first + 2 * even + odd) * (1 / 16.0f);
                odd = (even + 2 * odd + last) * (1 / 16.0f);
                even = smooth_even;
            }
            if (begin && j == 0) s.first = even;
            add_to(&s, even);
            add_to(&s, odd);
            store(l->y, at, even, low);
            store(l->y, at + width * n, odd, low);
        }
        sums[c / LANES] = s;
    }
}

/* Weights: (cin, 1, 2, 2 and 4 cout) for itself, differences across, down, both; see above. */
INLINE int upsampled_layer(const Layer *l, const int smooth, const int low) {
    const int adds = 1;
    int across = (l->width + MOST - 1) / MOST;
    int blocks = (l->end - l->begin + STRIP - 1) / STRIP * across;
    size_t of_row = align(sizeof(float) * (STRIDE + 1) * l->cin);
    size_t of_v = align(sizeof(float) * 4 * STRIDE * l->cin);
    size_t of_m = align(sizeof(float) * STRIDE * PRODUCTS * l->cout);
    size_t of_wide = align(sizeof(float) * KEPT * PLANES * 2 * MOST * l->cout);
    size_t of_gathered = align(sizeof(float) * (STRIDE + 3) * l->cin);
    size_t bytes = 4 * of_gathered + 2 * of_row + of_m + of_wide + of_v +
        sizeof(floats) * 3 * l->cout / LANES;
    void *space = workspace(l, blocks, bytes);
    if (!space) return 0;
#pragma omp parallel for schedule(dynamic) num_threads(l->threads)
    for (int b = 0; b < blocks; b++) {
        char *part = thread_part(l, space, blocks, bytes);
        Strip strip;
        for (int i = 0; i < 3; i++, part += of_gathered) strip.gathered[i] = (float *)part;
        strip.sum = (float *)part, part += of_gathered;
        for (int i = 0; i < 2; i++, part += of_row) strip.rows[i] = (float *)part;
        strip.m = (float *)part, part += of_m;
        strip.wide = (float *)part, part += of_wide;
        strip.v = part;
        Sums *sums = (Sums *)(strip.v + of_v);
        int top = l->begin + b / across * STRIP, left = b % across * MOST;
        int bottom = at_most(l->end, top + STRIP), count = at_most(l->width - left, MOST);
        memset(sums, 0, sizeof(floats) * 3 * l->cout / LANES);
        for (int k = top - 1; k <= bottom; k++) {
            int first = k < top;
            read_row(l, &strip, k, top - 1, left - 2, count + 3, smooth, adds, low);
            if (first && !smooth) continue;
            enter_row(l, &strip, k, count + 2, first, low);
            multiply_row(l, &strip, count + 2, first, low);
            widen_row(l, &strip, k, count, first, smooth);
            if (k > top)
                leave_rows(l, &strip, k - 1, left, count, sums, k == top + 1, smooth, low);
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
