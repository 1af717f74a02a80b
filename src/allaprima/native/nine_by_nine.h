/* The 9x9 convolutions at either end. Nine rows are three times three, and three rows at a time are
 * F(4, 3) down the columns: 18 products for four outputs where there were 36. Whole rows are
 * transformed at once; along a row the convolution is direct. */

#ifndef ALLAPRIMA_NINE_BY_NINE_H
#define ALLAPRIMA_NINE_BY_NINE_H

#include "painting.h"

enum {
    WINDOW = 12,   /* rows of x that four rows of y see */
    THIRDS = 3,    /* of a kernel: rows 0-2, 3-5, 6-8 */
    LINES = 6,     /* transformed rows, for each third */
    FIRST = 96,    /* pixels of a block of the first layer */
    FIRST_ROW = (FIRST + 8) * 3 + 24,
    ACROSS = LANES == 16 ? 8 : 4, /* vectors of pixels of a block of the last layer */
    LAST = ACROSS * LANES,
    LAST_ROW = LAST + LANES,
    LAST_STRIP = 32, /* its rows */
};

/* Six rows from each of rows 0, 3 and 6, as the thirds of a kernel need them */
INLINE void transform_window(const floats *rows, floats *lines) {
    for (int third = 0; third < THIRDS; third++)
        transform_in(rows + 3 * third, lines + LINES * third, 1);
}

/* count pixels of a padded row of the photo, from column left on, plus shift */
static void gather_photo(const Layer *l, int row, int left, int count, float *out) {
    const float *from = (const float *)l->x +
        (size_t)3 * l->photo_width * reflect(reflect(row, l->height), l->photo_height);
    for (int j = 0; j < count; j++) {
        int column = reflect(reflect(left + j, l->width), l->photo_width);
        for (int c = 0; c < 3; c++) out[3 * j + c] = from[3 * column + c] + l->shift[c];
    }
    for (int i = 3 * count; i < FIRST_ROW; i++) out[i] = 0;
}

/* v: (LINES, THIRDS, FIRST_ROW) of the photo around four rows of y */
INLINE void enter_first(const Layer *l, int top, int left, int count, float *window, void *v,
                        const int low) {
    for (int i = 0; i < WINDOW; i++)
        gather_photo(l, top - 4 + i, left - 4, count + 8, window + i * FIRST_ROW);
    for (int e = 0; e < FIRST_ROW; e += LANES) {
        floats rows[WINDOW], lines[THIRDS * LINES];
        for (int i = 0; i < WINDOW; i++) rows[i] = load(window, i * FIRST_ROW + e, 0);
        transform_window(rows, lines);
        for (int third = 0; third < THIRDS; third++)
            for (int p = 0; p < LINES; p++)
                store(v, (p * THIRDS + third) * FIRST_ROW + e, lines[third * LINES + p], low);
    }
}

/* m (LINES, FIRST, cout) to four rows of y */
INLINE void leave_first(const Layer *l, int top, int left, int count, const float *m,
                        float *record, const int low) {
    size_t line = (size_t)FIRST * l->cout;
    for (int c = 0; c < l->cout; c += LANES) {
        Sums sums = {{0}, {0}, {0}};
        for (int j = 0; j < count; j++) {
            floats in[LINES], out[4];
            for (int p = 0; p < LINES; p++) in[p] = load(m, p * line + j * l->cout + c, 0);
            transform_out(in, out, 1);
            if (j == 0) sums.first = out[0];
            for (int i = 0; i < 4; i++) {
                size_t at = ((size_t)(top + i) * l->width + left + j) * l->cout + c;
                add_to(&sums, out[i]);
                store(l->y, at, out[i], low);
            }
        }
        write_sums(l, record, sums, c, 4 * count);
    }
}

/* 9x9, photo -> cout. Weights: LINES panels of (THIRDS x 27, cout), 28 if low. */
INLINE int first_layer(const Layer *l, const int low) {
    int across = (l->width + FIRST - 1) / FIRST, blocks = (l->end - l->begin) / 4 * across;
    size_t of_window = sizeof(float) * WINDOW * FIRST_ROW, of_v = of_window / 2 * 3;
    size_t bytes = of_window + of_v + sizeof(float) * LINES * FIRST * l->cout;
    const int length = low ? 28 : 27;
    const size_t size = low ? 2 : 4;
    void *space = workspace(l, blocks, bytes);
    if (!space) return 0;
#pragma omp parallel for schedule(dynamic) num_threads(l->threads)
    for (int b = 0; b < blocks; b++) {
        char *window = thread_part(l, space, blocks, bytes), *v = window + of_window;
        float *m = (float *)(v + of_v);
        int top = l->begin + b / across * 4, left = b % across * FIRST;
        int count = at_most(l->width - left, FIRST);
        enter_first(l, top, left, count, (float *)window, v, low);
        for (int p = 0; p < LINES; p++)
            multiply_all(v + size * p * THIRDS * FIRST_ROW, 3, THIRDS, FIRST_ROW, length, count,
                         (const char *)l->weights + size * p * THIRDS * length * l->cout, l->cout,
                         m + (size_t)p * FIRST * l->cout, l->cout, low);
        leave_first(l, top, left, count, m, (float *)space + b * record_size(l), low);
    }
    conclude(l, space, blocks);
    free(space);
    return 1;
}

/* Exchange rows and columns. */
INLINE void transpose(floats *rows) {
#if defined(__clang__)
    float out[LANES][LANES];
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < LANES; j++) out[j][i] = rows[i][j];
    memcpy(rows, out, sizeof(out));
#else
#pragma GCC unroll 4
    for (int step = 1; step < LANES; step *= 2) {
        bits lower, upper; /* lanes without the step's bit, of either; with it */
        for (int j = 0; j < LANES; j++) {
            lower[j] = j & step ? LANES + j - step : j;
            upper[j] = j & step ? LANES + j : j + step;
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            if (!(i & step)) {
                floats a = rows[i], b = rows[i + step];
                rows[i] = __builtin_shuffle(a, b, lower);
                rows[i + step] = __builtin_shuffle(a, b, upper);
            }
    }
#endif
}

/* A padded row of x, normalised, by channels: out (cin, LAST_ROW) */
INLINE void gather_channels(const Layer *l, int row, int left, float *out, const int low) {
    row = reflect(row, l->height);
    for (int c = 0; c < l->cin; c += LANES) {
        floats scale = load(l->scale, c, 0), shift = load(l->shift, c, 0);
        for (int j = 0; j < LAST_ROW; j += LANES) {
            floats pixels[LANES];
            for (int i = 0; i < LANES; i++) {
                int column = clamp(reflect(left + j + i, l->width), l->width);
                size_t at = ((size_t)row * l->width + column) * l->cin + c;
                pixels[i] = gather(l, at, scale, shift, 0, 0, low);
            }
            transpose(pixels);
            for (int i = 0; i < LANES; i++) store(out, (c + i) * LAST_ROW + j, pixels[i], 0);
        }
    }
}

/* Two channels' values, rounded to bfloat16, side by side */
INLINE floats join(floats even, floats odd) {
    bits a = (bits)even + 0x8000, b = (bits)odd + 0x8000;
    return (floats)(((a >> 16) & 0xffff) | (b & (int32_t)0xffff0000));
}

/* The window's transformed rows by channels, or pairs of them: v (LINES, THIRDS, cin, LAST_ROW).
 * window: WINDOW rows (cin, LAST_ROW), in a ring that begins at first. */
INLINE void enter_last(const Layer *l, const float *window, int first, float *v, const int low) {
    size_t row = (size_t)l->cin * LAST_ROW, third_size = low ? row / 2 : row;
    for (int c = 0; c < l->cin; c += low ? 2 : 1)
        for (int j = 0; j < LAST_ROW; j += LANES) {
            floats rows[WINDOW], lines[2][THIRDS * LINES];
            for (int k = 0; k < (low ? 2 : 1); k++) {
                for (int i = 0; i < WINDOW; i++)
                    rows[i] = load(window, (first + i) % WINDOW * row + (c + k) * LAST_ROW + j, 0);
                transform_window(rows, lines[k]);
            }
            size_t at = (low ? c / 2 : c) * LAST_ROW + j;
            for (int third = 0; third < THIRDS; third++)
                for (int p = 0; p < LINES; p++) {
                    floats value = lines[0][third * LINES + p];
                    if (low) value = join(value, lines[1][third * LINES + p]);
                    store(v, (p * THIRDS + third) * third_size + at, value, 0);
                }
        }
}

/* m (3, LAST) = a line of v (depth, LAST_ROW) with nine taps of weights (depth, 9, 3). */
INLINE void multiply_line(const float *v, int depth, const float *weights, float *m,
                          const int low) {
    floats sum[3][ACROSS] = {{{0}}};
    for (int k = 0; k < depth; k++, v += LAST_ROW)
        for (int tap = 0; tap < 9; tap++, weights += 3) {
            floats w[3];
            for (int o = 0; o < 3; o++) w[o] = weights[o] - (floats){0};
#pragma GCC unroll 8
            for (int j = 0; j < ACROSS; j++) {
                floats value = load(v, tap + j * LANES, 0);
                for (int o = 0; o < 3; o++) {
                    if (!low) sum[o][j] += value * w[o];
#if HAS_BFLOAT16
                    if (low)
                        sum[o][j] = (floats)_mm512_dpbf16_ps(
                            (__m512)sum[o][j], (__m512bh)value,
                            (__m512bh)_mm512_set1_epi32(((const pair *)weights)[o]));
#endif
                }
            }
        }
    for (int o = 0; o < 3; o++)
        for (int j = 0; j < ACROSS; j++) store(m, o * LAST + j * LANES, sum[o][j], 0);
}

/* 1 / (1 + exp(-2x)) = 1/2 + tanh(x) / 2. exp: 2^n times a polynomial (Taylor, |t| <= 0.35) */
INLINE floats half_tanh(floats x) {
    floats t = x * -2.88539008f; /* -2 / ln 2 */
    floats limit = t * 0 + 126;
    t = (floats)(((bits)t & (t < limit)) | ((bits)limit & ~(t < limit)));
    t = (floats)(((bits)t & (t > -limit)) | ((bits)-limit & ~(t > -limit)));
    floats magic = t * 0 + 12582912.0f; /* 1.5 * 2^23: its sum with t is whole */
    floats whole = t + magic;
    bits power = ((bits)whole - (bits)magic + 127) << 23;
    t = (t - (whole - magic)) * 0.69314718f;
    floats exp = 1 + t * (1 + t * (1 / 2.f + t * (1 / 6.f + t * (1 / 24.f + t * (1 / 120.f +
        t * (1 / 720.f))))));
    return 1 / (1 + exp * (floats)power);
}

/* m (LINES, 3, LAST) to four rows of the picture, as far as it goes */
INLINE void leave_last(const Layer *l, int top, int left, const float *m) {
    int count = at_most(l->photo_width - left, LAST), rows = at_most(l->photo_height - top, 4);
    float tile[4][3][LAST];
    for (int o = 0; o < 3; o++)
        for (int j = 0; j < LAST; j += LANES) {
            floats in[LINES], out[4];
            for (int p = 0; p < LINES; p++) in[p] = load(m, (p * 3 + o) * LAST + j, 0);
            transform_out(in, out, 1);
            for (int i = 0; i < 4; i++) {
                floats value = out[i] + l->offset[o];
                if (l->cut)
                    value += 0.5f;
                else
                    value = half_tanh(value);
                store(tile[i][o], j, value, 0);
            }
        }
    for (int i = 0; i < rows; i++) {
        float *to = (float *)l->y + ((size_t)(top + i) * l->photo_width + left) * 3;
        for (int j = 0; j < count; j++)
            for (int o = 0; o < 3; o++) {
                float value = tile[i][o][j];
                to[3 * j + o] = value < 0 ? 0 : value > 1 ? 1 : value;
            }
    }
}

/* 9x9, cin -> picture. Weights: (LINES, THIRDS x cin, 9, 3); pairs of channels if low. */
INLINE int last_layer(const Layer *l, const int low) {
    int across = (l->photo_width + LAST - 1) / LAST;
    int blocks = (l->end - l->begin + LAST_STRIP - 1) / LAST_STRIP * across;
    size_t row = (size_t)l->cin * LAST_ROW, of_window = sizeof(float) * WINDOW * row;
    size_t of_v = sizeof(float) * LINES * THIRDS * row;
    size_t bytes = of_window + of_v + sizeof(float) * LINES * 3 * LAST;
    int depth = THIRDS * (low ? l->cin / 2 : l->cin);
    void *space = workspace(l, 0, bytes);
    if (!space) return 0;
#pragma omp parallel for schedule(dynamic) num_threads(l->threads)
    for (int b = 0; b < blocks; b++) {
        float *window = (float *)thread_part(l, space, 0, bytes);
        float *v = window + WINDOW * row, *m = v + LINES * THIRDS * row;
        int top = l->begin + b / across * LAST_STRIP, left = b % across * LAST;
        int bottom = at_most(l->end, top + LAST_STRIP);
        for (int i = 0; i < 8; i++)
            gather_channels(l, top - 4 + i, left - 4, window + i * row, low);
        for (int y = top, first = 0; y < bottom; y += 4, first = (first + 4) % WINDOW) {
            for (int i = 8; i < WINDOW; i++)
                gather_channels(l, y - 4 + i, left - 4, window + (first + i) % WINDOW * row, low);
            enter_last(l, window, first, v, low);
            for (int p = 0; p < LINES; p++)
                multiply_line(v + (size_t)p * depth * LAST_ROW, depth,
                              (const float *)l->weights + (size_t)p * depth * 27, m + p * 3 * LAST,
                              low);
            leave_last(l, y, left, m);
        }
    }
    free(space);
    return 1;
}

#endif
