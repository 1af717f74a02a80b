/* What a generator does between its convolutions, on channels-last float32 or bfloat16:
 * instance norm with ReLU or shortcut, padding with nearest or bilinear upsampling; and their
 * gradients. channels: of 16. low: bfloat16, with float32 arithmetic. */

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "winograd.h" /* load and store */

enum { PART = 1024 }; /* positions that one task takes, and that are summed in float32 */

int has_bfloat16(void) { return HAS_BFLOAT16; }

INLINE int parts_of(int positions) { return (positions + PART - 1) / PART; }

/* The image, positions and first value of a task */
#define FOR_PART(part)                                                       \
    int parts = parts_of(positions), image = (part) / parts;                 \
    int start = (part) % parts * PART;                                       \
    int end = start + PART < positions ? start + PART : positions;           \
    size_t origin = (size_t)image * positions * channels;

/* sums (batch x parts, 2, channels) of x and of its squares, less its first position */
INLINE void moments(const void *x, float *sums, int batch, int positions, int channels,
                    int threads, const int low) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < batch * parts_of(positions); part++) {
        FOR_PART(part)
        for (int c = 0; c < channels; c += LANES) {
            /* Relative to the image's first position, so that flat images have no variance. */
            floats base = load(x, origin + c, low), sum = {0}, squares = {0};
            for (int p = start; p < end; p++) {
                floats value = load(x, origin + (size_t)p * channels + c, low) - base;
                sum += value;
                squares += value * value;
            }
            store(sums, (size_t)part * 2 * channels + c, sum, 0);
            store(sums, (size_t)part * 2 * channels + channels + c, squares, 0);
        }
    }
}

/* y = weight (x - mean) / sqrt(variance + eps) + bias, each channel of each image by itself;
 * [ReLU], [+ shortcut]. statistics (batch, 4, channels): out, mean, weight / deviation,
 * bias and 1 / deviation.
 * sums: batch x parts x 2 channels. Ulyanov 2016, Instance normalization, equation 2. */
INLINE void norm(const void *x, const float *weight, const float *bias, const void *shortcut,
                 void *y, float *statistics, float *sums, int batch, int positions, int channels,
                 float eps, int relu, int threads, const int low) {
    moments(x, sums, batch, positions, channels, threads, low);
    for (int b = 0; b < batch; b++)
        for (int c = 0; c < channels; c++) {
            double sum = 0, squares = 0;
            for (int part = 0; part < parts_of(positions); part++) {
                const float *at = sums + ((size_t)b * parts_of(positions) + part) * 2 * channels;
                sum += at[c];
                squares += at[channels + c];
            }
            size_t first = (size_t)b * positions * channels + c;
            float base = ((const float *)x)[low ? 0 : first];
            if (low) {
                uint32_t high = (uint32_t)((const uint16_t *)x)[first] << 16;
                memcpy(&base, &high, sizeof base);
            }
            double mean = sum / positions, variance = squares / positions - mean * mean;
            float *at = statistics + (size_t)b * 4 * channels;
            at[c] = base + mean;
            at[3 * channels + c] = 1 / sqrt((variance > 0 ? variance : 0) + eps);
            at[channels + c] = weight[c] * at[3 * channels + c];
            at[2 * channels + c] = bias[c];
        }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < batch * parts_of(positions); part++) {
        FOR_PART(part)
        const float *at = statistics + (size_t)image * 4 * channels;
        for (int p = start; p < end; p++)
            for (int c = 0; c < channels; c += LANES) {
                size_t i = origin + (size_t)p * channels + c;
                floats value = (load(x, i, low) - load(at, c, 0)) * load(at, channels + c, 0) +
                    load(at, 2 * channels + c, 0);
                if (relu) value = keep_where(value, value);
                if (shortcut) value += load(shortcut, i, low);
                store(y, i, value, low);
            }
    }
}

/* Of the above: dx, and dweight and dbias (batch, channels), from dy.
 * sums: batch x (parts + 1) x 2 channels. */
INLINE void norm_gradient(const void *dy, const void *x, const float *statistics, void *dx,
                          float *dweight, float *dbias, float *sums, int batch, int positions, int channels, int relu,
                          int threads, const int low) {
#define GRADIENT(value, slope)                                                              \
    floats value = load(x, i, low) - load(at, c, 0), slope = load(dy, i, low);              \
    if (relu)                                                                               \
        slope = keep_where(slope, value * load(at, channels + c, 0) +                       \
                                      load(at, 2 * channels + c, 0));
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < batch * parts_of(positions); part++) {
        FOR_PART(part)
        const float *at = statistics + (size_t)image * 4 * channels;
        for (int c = 0; c < channels; c += LANES) {
            floats sum = {0}, products = {0};
            for (int p = start; p < end; p++) {
                size_t i = origin + (size_t)p * channels + c;
                GRADIENT(value, slope)
                sum += slope;
                products += slope * value;
            }
            store(sums, (size_t)part * 2 * channels + c, sum, 0);
            store(sums, (size_t)part * 2 * channels + channels + c, products, 0);
        }
    }
    float *factors = sums + (size_t)batch * parts_of(positions) * 2 * channels;
    for (int b = 0; b < batch; b++)
        for (int c = 0; c < channels; c++) {
            double sum = 0, products = 0;
            for (int part = 0; part < parts_of(positions); part++) {
                const float *at = sums + ((size_t)b * parts_of(positions) + part) * 2 * channels;
                sum += at[c];
                products += at[channels + c];
            }
            float inverse = statistics[((size_t)b * 4 + 3) * channels + c];
            dbias[(size_t)b * channels + c] = sum;
            dweight[(size_t)b * channels + c] = products * inverse;
            float *at = factors + (size_t)b * 2 * channels;
            at[c] = sum / positions;
            at[channels + c] = products / positions * inverse * inverse;
        }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < batch * parts_of(positions); part++) {
        FOR_PART(part)
        const float *at = statistics + (size_t)image * 4 * channels;
        const float *factor = factors + (size_t)image * 2 * channels;
        for (int p = start; p < end; p++)
            for (int c = 0; c < channels; c += LANES) {
                size_t i = origin + (size_t)p * channels + c;
                GRADIENT(value, slope)
                slope -= load(factor, c, 0) + value * load(factor, channels + c, 0);
                store(dx, i, slope * load(at, channels + c, 0), low);
            }
    }
#undef GRADIENT
}

/* Where row or column i of the padded and enlarged image comes from */
INLINE int source(int i, int margin, int size, int scale) {
    i -= margin;
    if (i < 0) i = -i;
    if (i >= size * scale) i = 2 * (size * scale - 1) - i;
    return i / scale;
}

/* Where row or column i goes to; the number of places, 2 scale at most but for tiny images */
INLINE int targets(int i, int margin, int size, int scale, int *places) {
    int num = 0, last = size * scale - 1;
    for (int at = i * scale; at < (i + 1) * scale; at++) {
        places[num++] = margin + at;
        if (at >= 1 && at <= margin) places[num++] = margin - at;
        if (at < last && at >= last - margin) places[num++] = margin + 2 * last - at;
    }
    return num;
}

/* y (batch, scale height + 2 margin, scale width + 2 margin, channels): x enlarged to the
 * nearest, then reflected at the borders. margin < scale height, scale width. */
INLINE void pad(const void *x, void *y, int batch, int height, int width, int channels,
                int margin, int scale, int threads, const int low) {
    int rows = height * scale + 2 * margin, columns = width * scale + 2 * margin;
    size_t pixel = (size_t)channels * (low ? 2 : 4);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int row = 0; row < batch * rows; row++) {
        size_t from_row = (size_t)(row / rows) * height + source(row % rows, margin, height, scale);
        const char *from = (const char *)x + from_row * width * pixel;
        char *to = (char *)y + (size_t)row * columns * pixel;
        for (int j = 0; j < columns; j++)
            memcpy(to + j * pixel, from + source(j, margin, width, scale) * pixel, pixel);
    }
}

/* dx: the sum of dy over the places where a pixel went */
INLINE void pad_gradient(const void *dy, void *dx, int batch, int height, int width, int channels,
                         int margin, int scale, int threads, const int low) {
    int rows = height * scale + 2 * margin, columns = width * scale + 2 * margin;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int row = 0; row < batch * height; row++) {
        int down[6], across[6]; /* 3 scale at most, scale 2 at most */
        int num_down = targets(row % height, margin, height, scale, down);
        for (int j = 0; j < width; j++) {
            int num_across = targets(j, margin, width, scale, across);
            for (int c = 0; c < channels; c += LANES) {
                floats sum = {0};
                for (int m = 0; m < num_down; m++)
                    for (int n = 0; n < num_across; n++) {
                        size_t at = ((size_t)(row / height) * rows + down[m]) * columns + across[n];
                        sum += load(dy, at * channels + c, low);
                    }
                store(dx, ((size_t)row * width + j) * channels + c, sum, low);
            }
        }
    }
}

/* Twice the size, bilinear (pixel centres, borders replicated): row or column i of the enlarged
 * and padded, or cut (margin < 0), image lies between two of x's. */
typedef struct {
    int first, second;
    float share; /* of the first; 1 - share of the second */
} Between;

INLINE Between between(int i, int margin, int size) {
    i -= margin;
    i = i < 0 ? 0 : i < 2 * size ? i : 2 * size - 1;
    int first = (i + 1) / 2 - 1, second = first + 1;
    Between at = {first < 0 ? 0 : first, second < size ? second : size - 1, i % 2 ? 0.75f : 0.25f};
    return at;
}

INLINE float share_of(Between at, int i) {
    return (at.first == i) * at.share + (at.second == i) * (1 - at.share);
}

/* The first row or column that i has a share in, or the one after the last */
INLINE int reach(int i, int end, int margin, int size) {
    int at = 2 * i + margin + (end ? 3 : -1), last = 2 * (size + margin);
    if (i == (end ? size - 1 : 0)) at = end ? last : 0; /* the borders' copies */
    return at < 0 ? 0 : at < last ? at : last;
}

/* y (batch, 2 height + 2 margin, 2 width + 2 margin, channels): x enlarged, then its borders
 * replicated; nothing if there is no memory for a row a thread. */
INLINE int enlarge(const void *x, void *y, int batch, int height, int width, int channels,
                   int margin, int threads, const int low) {
    int rows = 2 * (height + margin), columns = 2 * (width + margin);
    float *space = aligned_alloc(64, sizeof(float) * threads * width * channels);
    if (!space) return 0;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int row = 0; row < batch * rows; row++) {
        Between down = between(row % rows, margin, height);
        float *blend = space + (size_t)omp_get_thread_num() * width * channels;
        size_t image = (size_t)(row / rows) * height, line = (size_t)width * channels;
        for (size_t i = 0; i < line; i += LANES) {
            floats first = load(x, (image + down.first) * line + i, low);
            floats second = load(x, (image + down.second) * line + i, low);
            store(blend, i, second + down.share * (first - second), 0);
        }
        for (int j = 0; j < columns; j++) {
            Between across = between(j, margin, width);
            const float *first = blend + across.first * channels;
            const float *second = blend + across.second * channels;
            for (int c = 0; c < channels; c += LANES) {
                floats value = load(second, c, 0);
                value += across.share * (load(first, c, 0) - value);
                store(y, ((size_t)row * columns + j) * channels + c, value, low);
            }
        }
    }
    free(space);
    return 1;
}

/* dx: of dy, what each pixel had a share in */
INLINE int enlarge_gradient(const void *dy, void *dx, int batch, int height, int width,
                            int channels, int margin, int threads, const int low) {
    int rows = 2 * (height + margin), columns = 2 * (width + margin);
    float *space = aligned_alloc(64, sizeof(float) * threads * columns * channels);
    if (!space) return 0;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int row = 0; row < batch * height; row++) {
        int i = row % height;
        float *sums = space + (size_t)omp_get_thread_num() * columns * channels;
        size_t line = (size_t)columns * channels;
        memset(sums, 0, sizeof(float) * line);
        int top = reach(i, 0, margin, height), bottom = reach(i, 1, margin, height);
        for (int p = top; p < bottom; p++) {
            float share = share_of(between(p, margin, height), i);
            size_t from = ((size_t)(row / height) * rows + p) * line;
            for (size_t k = 0; k < line; k += LANES)
                store(sums, k, load(sums, k, 0) + share * load(dy, from + k, low), 0);
        }
        for (int j = 0; j < width; j++) {
            int begin = reach(j, 0, margin, width), end = reach(j, 1, margin, width);
            for (int c = 0; c < channels; c += LANES) {
                floats sum = {0};
                for (int q = begin; q < end; q++)
                    sum += share_of(between(q, margin, width), j) *
                        load(sums, (size_t)q * channels + c, 0);
                store(dx, ((size_t)row * width + j) * channels + c, sum, low);
            }
        }
    }
    free(space);
    return 1;
}

void norm_forward(const void *x, const float *weight, const float *bias, const void *shortcut,
                  void *y, float *statistics, float *sums, int batch, int positions, int channels,
                  float eps, int relu, int threads, int low) {
    if (low)
        norm(x, weight, bias, shortcut, y, statistics, sums, batch, positions, channels, eps, relu,
             threads, 1);
    else
        norm(x, weight, bias, shortcut, y, statistics, sums, batch, positions, channels, eps, relu,
             threads, 0);
}

void norm_backward(const void *dy, const void *x, const float *statistics, void *dx,
                   float *dweight, float *dbias, float *sums, int batch, int positions,
                   int channels, int relu, int threads, int low) {
    if (low)
        norm_gradient(dy, x, statistics, dx, dweight, dbias, sums, batch, positions,
                      channels, relu, threads, 1);
    else
        norm_gradient(dy, x, statistics, dx, dweight, dbias, sums, batch, positions,
                      channels, relu, threads, 0);
}

void pad_forward(const void *x, void *y, int batch, int height, int width, int channels,
                 int margin, int scale, int threads, int low) {
    if (low)
        pad(x, y, batch, height, width, channels, margin, scale, threads, 1);
    else
        pad(x, y, batch, height, width, channels, margin, scale, threads, 0);
}

void pad_backward(const void *dy, void *dx, int batch, int height, int width, int channels,
                  int margin, int scale, int threads, int low) {
    if (low)
        pad_gradient(dy, dx, batch, height, width, channels, margin, scale, threads, 1);
    else
        pad_gradient(dy, dx, batch, height, width, channels, margin, scale, threads, 0);
}

int enlarge_forward(const void *x, void *y, int batch, int height, int width, int channels,
                    int margin, int threads, int low) {
    return low ? enlarge(x, y, batch, height, width, channels, margin, threads, 1)
               : enlarge(x, y, batch, height, width, channels, margin, threads, 0);
}

int enlarge_backward(const void *dy, void *dx, int batch, int height, int width, int channels,
                     int margin, int threads, int low) {
    return low ? enlarge_gradient(dy, dx, batch, height, width, channels, margin, threads, 1)
               : enlarge_gradient(dy, dx, batch, height, width, channels, margin, threads, 0);
}
