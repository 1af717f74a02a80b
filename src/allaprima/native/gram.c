/* Gram matrices of channels-last bfloat16 activations, with float32 sums, and their gradient. */

#include <omp.h>
#include <string.h>

#include "winograd.h" /* its product of ROWS rows */

enum { PAIRS = 96 }; /* pairs of positions that are summed before a Gram matrix is touched */

int has_bfloat16(void) { return HAS_BFLOAT16; }

#if HAS_BFLOAT16

/* positions x channels to pairs of positions x channels x 2; a missing position counts as zero */
static void interleave(const uint16_t *x, int positions, int channels, uint32_t *pairs) {
    for (int p = 0; p < positions; p += 2)
        for (int c = 0; c < channels; c += LANES) {
            const uint16_t *at = x + (size_t)p * channels + c;
            __m512i first = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)at));
            __m512i second = _mm512_setzero_si512();
            if (p + 1 < positions)
                second = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(at + channels)));
            __m512i both = _mm512_or_si512(first, _mm512_slli_epi32(second, 16));
            _mm512_storeu_si512(pairs + (size_t)p / 2 * channels + c, both);
        }
}

/* gram[i ... i + ROWS, j ... j + count * LANES] += of the pairs; rows beyond the last are left */
INLINE void correlate(const uint32_t *pairs, int num, int channels, float *gram, int i, int j,
                      const int count) {
    __m512 sum[ROWS][VECTORS];
    int rows = channels - i < ROWS ? channels - i : ROWS;
    for (int r = 0; r < ROWS; r++)
        for (int n = 0; n < count; n++) sum[r][n] = _mm512_setzero_ps();
    for (int p = 0; p < num; p++) {
        const uint32_t *row = pairs + (size_t)p * channels;
        __m512bh columns[VECTORS];
        for (int n = 0; n < count; n++)
            columns[n] = (__m512bh)_mm512_loadu_si512(row + j + n * LANES);
#pragma GCC unroll 12
        for (int r = 0; r < ROWS; r++) /* beyond the last channel: of the next pair, unused */
            for (int n = 0; n < count; n++)
                sum[r][n] = _mm512_dpbf16_ps(sum[r][n], (__m512bh)_mm512_set1_epi32(row[i + r]),
                                             columns[n]);
    }
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; r++)
        for (int n = 0; n < count && r < rows; n++) {
            float *at = gram + (size_t)(i + r) * channels + j + n * LANES;
            _mm512_storeu_ps(at, _mm512_add_ps(_mm512_loadu_ps(at), sum[r][n]));
        }
}

/* grams (batch, splits, channels, channels): of each of the parts of x (batch, positions,
 * channels), unscaled. scratch: threads x (PAIRS * channels + ROWS). channels: of 16. */
void gram(const uint16_t *x, float *grams, uint32_t *scratch, int batch, int positions,
          int channels, int splits, int threads) {
    int share = (positions + splits - 1) / splits;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int part = 0; part < batch * splits; part++) {
        int start = part % splits * share;
        int end = start + share < positions ? start + share : positions;
        const uint16_t *image = x + (size_t)(part / splits) * positions * channels;
        float *sums = grams + (size_t)part * channels * channels;
        uint32_t *pairs = scratch + (size_t)omp_get_thread_num() * (PAIRS * channels + ROWS);
        memset(sums, 0, sizeof(float) * channels * channels);
        for (int p = start; p < end; p += 2 * PAIRS) {
            int count = end - p < 2 * PAIRS ? end - p : 2 * PAIRS;
            interleave(image + (size_t)p * channels, count, channels, pairs);
            for (int i = 0; i < channels; i += ROWS) /* it is symmetric: from the diagonal on */
                for (int j = i / (2 * LANES) * (2 * LANES); j < channels; j += 2 * LANES) {
                    if (channels - j >= 2 * LANES)
                        correlate(pairs, (count + 1) / 2, channels, sums, i, j, 2);
                    else
                        correlate(pairs, (count + 1) / 2, channels, sums, i, j, 1);
                }
        }
        for (int i = 0; i < channels; i++)
            for (int j = 0; j < i; j++)
                sums[(size_t)i * channels + j] = sums[(size_t)j * channels + i];
    }
}

/* y (batch, positions, channels) = x times a symmetric matrix of each image, which is packed
 * as (batch, channels / COLS, channels / 2, COLS, 2). scratch: threads x (2 * ROWS * channels). */
void times_matrix(const uint16_t *x, const uint16_t *packed, uint16_t *y, float *scratch,
                  int batch, int positions, int channels, int threads) {
    int groups = (positions + ROWS - 1) / ROWS;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int g = 0; g < batch * groups; g++) {
        float *sums = scratch + (size_t)omp_get_thread_num() * 2 * ROWS * channels;
        int first = g % groups * ROWS;
        int rows = positions - first < ROWS ? positions - first : ROWS;
        size_t at = ((size_t)(g / groups) * positions + first) * channels;
        const uint16_t *a = x + at, *b = packed + (size_t)(g / groups) * channels * channels;
        if (rows < ROWS) { /* the product reads ROWS of them */
            a = memcpy(sums + ROWS * channels, a, sizeof(uint16_t) * rows * channels);
        }
        size_t panel = (size_t)channels * COLS;
        for (int o = 0; o < channels; o += 2 * COLS)
            for (int k = 0; k < channels; k += DEPTH) {
                const uint16_t *from = b + (size_t)o / COLS * panel + (size_t)k * COLS;
                int depth = channels - k < DEPTH ? channels - k : DEPTH;
                if (channels - o >= 2 * COLS)
                    multiply(a + k, channels, from, panel, depth, sums + o, channels, k > 0, 2, 1);
                else
                    multiply(a + k, channels, from, panel, depth, sums + o, channels, k > 0, 1, 1);
            }
        for (int i = 0; i < rows * channels; i += LANES)
            store(y, at + i, load(sums, i, 0), 1);
    }
}

#endif
