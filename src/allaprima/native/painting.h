/* What the layers of painter.c share: their description, what they read, products of pixels and
 * weights, and the statistics of what they write.
 *
 * Images are channels-last. A layer reads what the convolution before it wrote, applies that one's
 * norm and ReLU while it gathers, and writes its own convolution as it is: nothing normalised is
 * stored, but for the sums of residual blocks. It may write some rows alone: pointers are then to
 * where the whole image would begin, and only the rows around those are there. "low" is bfloat16 for stored pixels and for the
 * factors of products; sums, norms and transforms are float32. */

#ifndef ALLAPRIMA_PAINTING_H
#define ALLAPRIMA_PAINTING_H

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "winograd.h"

enum { WIDE = VECTORS * LANES }; /* columns of a micro-kernel's product */

/* Mirrored in painter.py. Channels are of 16, the photo's and the picture's three apart. */
typedef struct {
    const void *x;       /* (height, width, cin): the convolution before, or the photo */
    const float *scale;  /* (cin): its norm is scale x + shift ... */
    const float *shift;  /* (cin); of the photo, all that is done to it */
    const void *shortcut; /* null, or like x: added to the normalised ... */
    void *sum;            /* null, or like x: and kept here */
    const void *weights;  /* packed for the layer */
    void *y;              /* the convolution, or the picture */
    const float *gain;    /* (cout): instance norm's; null: no statistics */
    const float *offset;  /* (cout) */
    float *next_scale;    /* (cout): scale and shift that y's instance norm comes to */
    float *next_shift;    /* (cout) */
    double *moments;      /* null, or of the rows before: count, (cout) means, (cout) sums of
                             squared deviations; these rows are added */
    int height, width, cin, cout;
    int begin, end; /* rows to write, of 4 (times the dilation) each but at the bottom; of x where
                       it is upsampled */
    int relu;        /* of x after its norm */
    int photo_height, photo_width; /* before padding to multiples of 4; first and last layer */
    int dilation;    /* of residual layers */
    int smooth;      /* of upsampled layers: smoothed and bilinear, not nearest */
    int cut;         /* of the last layer: 1/2 + y cut off, in place of 1/2 + tanh(y) / 2 */
    int low, threads;
    float epsilon;
} Layer;

INLINE size_t align(size_t bytes) { return (bytes + 63) / 64 * 64; }

INLINE int at_most(int value, int limit) { return value < limit ? value : limit; }

/* The pixel that stands at index of a row or column padded by reflection */
INLINE int reflect(int index, int size) {
    index = index < 0 ? -index : index;
    return index < size ? index : 2 * size - 2 - index;
}

/* The same where the padding may be wider than the image, of 2 pixels or more */
INLINE int reflect_far(int index, int size) {
    return reflect(abs(index) % (2 * size - 2), size);
}

INLINE int clamp(int index, int size) { return index < 0 ? 0 : at_most(index, size - 1); }

/* LANES channels of x at that place, as the layer sees them; kept if ``keep``. */
INLINE floats gather(const Layer *l, size_t at, floats scale, floats shift, int keep,
                     const int adds, const int low) {
    floats value = load(l->x, at, low) * scale + shift;
    if (l->relu) value = keep_where(value, value);
    if (adds) {
        if (l->shortcut) value += load(l->shortcut, at, low);
        if (keep) store(l->sum, at, value, low);
    }
    return value;
}

/* count pixels of a row of x from column left on, padded, to out (count, cin). */
INLINE void gather_row(const Layer *l, int row, int left, int count, const int clamped, void *out,
                       const int adds, const int low, const int low_out) {
    for (int j = 0; j < count; j++) {
        int column = clamped ? clamp(left + j, l->width) : reflect(left + j, l->width);
        size_t at = ((size_t)row * l->width + column) * l->cin;
        for (int c = 0; c < l->cin; c += LANES) {
            floats scale = load(l->scale, c, 0), shift = load(l->shift, c, 0);
            floats value = gather(l, at + c, scale, shift, 0, adds, low);
            store(out, (size_t)j * l->cin + c, value, low_out);
        }
    }
}

/* c (ROWS, count * LANES) = a (ROWS, segments x length) b (segments x length, count * LANES).
 * a: rows at a stride, their segments at a pitch; rows may overlap. b: panels of COLS columns.
 * length: even if low. */
INLINE void multiply_rows(const void *a, size_t stride, int segments, size_t pitch, int length,
                          const void *b, float *c, size_t c_stride, const int count,
                          const int low) {
    const size_t size = low ? 2 : 4, panel_size = (size_t)segments * length * COLS;
    floats sum[ROWS][VECTORS] = {{{0}}};
    const char *columns_at = b, *rows_at = a;
    for (int s = 0; s < segments; s++, rows_at += size * pitch)
        for (int k = 0; k < length; k += low ? 2 : 1) {
            floats columns[VECTORS];
            for (int n = 0; n < count; n++)
                columns[n] = *(const floats *)(columns_at +
                    size * (n * LANES / COLS * panel_size + (low ? 2 : 1) * (n * LANES % COLS)));
            columns_at += 4 * COLS;
#pragma GCC unroll 12
            for (int i = 0; i < ROWS; i++) {
                const char *value_at = rows_at + size * (i * stride + k);
                if (!low)
                    for (int n = 0; n < count; n++)
                        sum[i][n] += *(const float *)value_at * columns[n];
#if HAS_BFLOAT16
                if (low)
                    for (int n = 0; n < count; n++)
                        sum[i][n] = (floats)_mm512_dpbf16_ps(
                            (__m512)sum[i][n],
                            (__m512bh)_mm512_set1_epi32(*(const pair *)value_at),
                            (__m512bh)columns[n]);
#endif
            }
        }
#pragma GCC unroll 12
    for (int i = 0; i < ROWS; i++)
        for (int n = 0; n < count; n++) store(c, i * c_stride + n * LANES, sum[i][n], 0);
}

/* The same for rows ... rows + ROWS - 1 at most, and all columns. */
INLINE void multiply_all(const void *a, size_t stride, int segments, size_t pitch, int length,
                         int rows, const void *b, int columns, float *c, size_t c_stride,
                         const int low) {
    const size_t size = low ? 2 : 4;
    for (int o = 0; o < columns; o += WIDE) {
        const char *panel = (const char *)b + size * segments * length * o;
        for (int i = 0; i < rows; i += ROWS) {
            const char *from = (const char *)a + size * i * stride;
            if (columns - o >= WIDE)
                multiply_rows(from, stride, segments, pitch, length, panel, c + i * c_stride + o,
                              c_stride, VECTORS, low);
            else
                multiply_rows(from, stride, segments, pitch, length, panel, c + i * c_stride + o,
                              c_stride, COLS / LANES, low);
        }
    }
}

/* Sums of LANES channels over a block's pixels, relative to the block's first value so that a
 * large mean does not drown them */
typedef struct {
    floats first, sum, squares;
} Sums;

INLINE void add_to(Sums *sums, floats value) {
    floats difference = value - sums->first;
    sums->sum += difference;
    sums->squares += difference * difference;
}

/* A block's statistics: count, then (cout) means, then (cout) sums of squared deviations */
INLINE size_t record_size(const Layer *l) { return 2 * l->cout + 16; }

INLINE void write_sums(const Layer *l, float *record, Sums sums, int channel, int count) {
    record[0] = count;
    floats mean = sums.sum / (float)(count ? count : 1);
    store(record, 16 + channel, sums.first + mean, 0);
    store(record, 16 + l->cout + channel, sums.squares - sums.sum * mean, 0);
}

/* Scale and shift of y's instance norm, from the statistics of all blocks (Chan's formula). The
 * order is the blocks', so that the number of threads changes nothing. */
static void conclude(const Layer *l, const float *records, int blocks) {
    if (!l->gain) return;
    for (int c = 0; c < l->cout; c += COLS) {
        double count = 0, mean[COLS] = {0}, squares[COLS] = {0};
        for (int b = 0; b < blocks; b++) {
            const float *record = records + b * record_size(l);
            count += record[0];
            for (int i = 0; i < COLS; i++) mean[i] += (double)record[0] * record[16 + c + i];
        }
        for (int i = 0; i < COLS; i++) mean[i] /= count;
        for (int b = 0; b < blocks; b++) {
            const float *record = records + b * record_size(l);
            for (int i = 0; i < COLS; i++) {
                double difference = record[16 + c + i] - mean[i];
                squares[i] += record[16 + l->cout + c + i] + record[0] * difference * difference;
            }
        }
        if (l->moments)
            for (int i = 0; i < COLS; i++) {
                double before = l->moments[0], *means = l->moments + 1 + c + i;
                double difference = mean[i] - *means, share = count / (before + count);
                squares[i] += means[l->cout] + difference * difference * before * share;
                means[l->cout] = squares[i];
                *means = mean[i] = *means + difference * share;
            }
        double total = l->moments ? l->moments[0] + count : count;
        if (l->moments && c + COLS == l->cout) l->moments[0] = total;
        for (int i = 0; i < COLS; i++) {
            double variance = squares[i] > 0 ? squares[i] / total : 0;
            double scale = l->gain[c + i] / __builtin_sqrt(variance + l->epsilon);
            l->next_scale[c + i] = scale;
            l->next_shift[c + i] = l->offset[c + i] - scale * mean[i];
        }
    }
}

/* Memory for the records of so many blocks and for as many bytes a thread; or null */
static void *workspace(const Layer *l, int blocks, size_t bytes) {
    size_t records = align(blocks * record_size(l) * sizeof(float));
    return aligned_alloc(64, records + l->threads * align(bytes));
}

INLINE char *thread_part(const Layer *l, void *space, int blocks, size_t bytes) {
    size_t records = align(blocks * record_size(l) * sizeof(float));
    return (char *)space + records + omp_get_thread_num() * align(bytes);
}

#endif
