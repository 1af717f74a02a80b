/* One pass of Johnson's network on a CPU, layer by layer: see painting.h; painter.py calls. */

#include "nine_by_nine.h"
#include "painting.h"

/* 3x3, stride 2: direct. Weights: (9 cin, cout). */
INLINE int strided_layer(const Layer *l, const int low) {
    enum { DOWN = 4, COUNT = 48 };
    int width = l->width / 2, across = (width + COUNT - 1) / COUNT;
    int blocks = (l->end - l->begin + DOWN - 1) / DOWN * across;
    const size_t size = low ? 2 : 4, pitch = (size_t)(2 * COUNT + 1) * l->cin;
    size_t of_patch = align(size * (2 * DOWN + 1) * pitch), of_row = (size_t)COUNT * l->cout;
    size_t bytes = of_patch + sizeof(float) * DOWN * of_row;
    void *space = workspace(l, blocks, bytes);
    if (!space) return 0;
#pragma omp parallel for schedule(dynamic) num_threads(l->threads)
    for (int b = 0; b < blocks; b++) {
        char *patch = thread_part(l, space, blocks, bytes);
        float *m = (float *)(patch + of_patch);
        int top = l->begin + b / across * DOWN, left = b % across * COUNT;
        int count = at_most(width - left, COUNT), rows = at_most(l->end - top, DOWN);
        for (int i = 0; i < 2 * rows + 1; i++)
            gather_row(l, reflect(2 * top - 1 + i, l->height), 2 * left - 1, 2 * count + 1, 0,
                       patch + size * i * pitch, 0, low, low);
        for (int i = 0; i < rows; i++)
            multiply_all(patch + size * 2 * i * pitch, 2 * l->cin, 3, pitch, 3 * l->cin, count,
                         l->weights, l->cout, m + i * of_row, l->cout, low);
        for (int c = 0; c < l->cout; c += LANES) {
            Sums sums = {load(m, c, 0), {0}, {0}};
            for (int i = 0; i < rows; i++)
                for (int j = 0; j < count; j++) {
                    floats value = load(m, i * of_row + j * l->cout + c, 0);
                    add_to(&sums, value);
                    store(l->y, ((size_t)(top + i) * width + left + j) * l->cout + c, value, low);
                }
            write_sums(l, (float *)space + b * record_size(l), sums, c, rows * count);
        }
    }
    conclude(l, space, blocks);
    free(space);
    return 1;
}

enum { CHUNK = 32 }; /* output channels of m at a time */

typedef struct {
    int top, left;
} Corner;

/* Squares in a row of them. A square holds as many tiles as taps lie apart, down and across, whose
 * pixels interleave; at the right and the bottom some may have none in the image. */
INLINE int squares_across(const Layer *l) {
    return (l->width + 4 * l->dilation - 1) / (4 * l->dilation);
}

INLINE Corner corner_of(const Layer *l, int tile) {
    int apart = l->dilation, square = tile / (apart * apart), within = tile % (apart * apart);
    int across = squares_across(l);
    return (Corner){square / across * 4 * apart + within / apart,
                    square % across * 4 * apart + within % apart};
}

/* A tile's transformed pixels to its row of v; its own pixels to l->sum, if there is one. */
INLINE void enter_tile(const Layer *l, Corner corner, void *v, size_t at, size_t plane,
                       const int adds, const int low) {
    size_t pixels[POINTS], rows[6], columns[6];
    int own[POINTS], in_row[6], in_column[6]; /* of the tile's own 4x4, those in the image */
    for (int k = 0; k < 6; k++) {
        int i = corner.top + (k - 1) * l->dilation, j = corner.left + (k - 1) * l->dilation;
        rows[k] = reflect_far(i, l->height), columns[k] = reflect_far(j, l->width);
        in_row[k] = k % 5 && i < l->height, in_column[k] = k % 5 && j < l->width;
    }
    for (int p = 0; p < POINTS; p++) {
        own[p] = adds && in_row[p / 6] && in_column[p % 6];
        pixels[p] = (rows[p / 6] * l->width + columns[p % 6]) * l->cin;
    }
    for (int c = 0; c < l->cin; c += LANES) {
        floats d[POINTS], scale = load(l->scale, c, 0), shift = load(l->shift, c, 0);
        for (int p = 0; p < POINTS; p++)
            d[p] = gather(l, pixels[p] + c, scale, shift, own[p], adds, low);
        tile_in(d, v, at + c, plane, low);
    }
}

/* Some channels of a block's tiles from m to y */
INLINE void leave_tiles(const Layer *l, int first, int count, const float *m, size_t plane,
                        int channel, int channels, float *record, const int low) {
    int apart = l->dilation;
    for (int c = 0; c < channels; c += LANES) {
        Sums sums = {{0}, {0}, {0}};
        int pixels = 0;
        for (int t = 0; t < count; t++) {
            Corner at = corner_of(l, first + t);
            floats tile[PIXELS];
            tile_out(m + (size_t)t * CHUNK + c, plane, tile);
            if (t == 0) sums.first = tile[0];
            int rows = at_most((l->height - at.top + apart - 1) / apart, 4);
            int columns = at_most((l->width - at.left + apart - 1) / apart, 4);
            pixels += rows * columns;
            for (int q = 0; q < PIXELS; q++) {
                if (q / 4 >= rows || q % 4 >= columns) continue;
                size_t row = at.top + q / 4 * apart, column = at.left + q % 4 * apart;
                add_to(&sums, tile[q]);
                store(l->y, (row * l->width + column) * l->cout + channel + c, tile[q], low);
            }
        }
        write_sums(l, record, sums, channel + c, pixels);
    }
}

/* 3x3, stride 1, dilated: Winograd. Weights: (POINTS, cin, cout). */
INLINE int residual_layer(const Layer *l, const int adds, const int low) {
    enum { TILES = 24 }; /* whose v and m stay in the second cache */
    int side = 4 * l->dilation, in_row = squares_across(l) * l->dilation * l->dilation;
    int before = l->begin / side * in_row, tiles = (l->end + side - 1) / side * in_row;
    int blocks = (tiles - before + TILES - 1) / TILES;
    const size_t size = low ? 2 : 4;
    /* The 32 keep the planes from meeting in the same lines of the cache. */
    size_t v_plane = (size_t)TILES * l->cin + 32, m_plane = (size_t)TILES * CHUNK + 32;
    size_t of_v = align(size * POINTS * v_plane);
    size_t bytes = of_v + sizeof(float) * POINTS * m_plane;
    void *space = workspace(l, blocks, bytes);
    if (!space) return 0;
#pragma omp parallel for schedule(dynamic) num_threads(l->threads)
    for (int b = 0; b < blocks; b++) {
        char *v = thread_part(l, space, blocks, bytes);
        float *m = (float *)(v + of_v), *record = (float *)space + b * record_size(l);
        int first = before + b * TILES, count = at_most(tiles - first, TILES);
        for (int t = 0; t < count; t++)
            enter_tile(l, corner_of(l, first + t), v, (size_t)t * l->cin, v_plane, adds, low);
        for (int o = 0; o < l->cout; o += CHUNK) {
            int chunk = at_most(l->cout - o, CHUNK);
            multiply_planes(v, v_plane, l->weights, l->cin, l->cout, o, chunk, m, m_plane, CHUNK,
                            count, low);
            leave_tiles(l, first, count, m, m_plane, o, chunk, record, low);
        }
    }
    conclude(l, space, blocks);
    free(space);
    return 1;
}

#include "upsampling.h"

#define EXPORT(name, ...) \
    int name(const Layer *l) { \
        if (l->low) return __VA_ARGS__(l, 1); \
        return __VA_ARGS__(l, 0); \
    }

EXPORT(paint_first, first_layer)
EXPORT(paint_strided, strided_layer)
EXPORT(paint_last, last_layer)

int paint_upsampled(const Layer *l) {
    if (l->low) return l->smooth ? upsampled_layer(l, 1, 1) : upsampled_layer(l, 0, 1);
    return l->smooth ? upsampled_layer(l, 1, 0) : upsampled_layer(l, 0, 0);
}

int paint_residual(const Layer *l) {
    int adds = l->shortcut || l->sum;
    if (l->low) return adds ? residual_layer(l, 1, 1) : residual_layer(l, 0, 1);
    return adds ? residual_layer(l, 1, 0) : residual_layer(l, 0, 0);
}

int has_bfloat16(void) { return HAS_BFLOAT16; }
