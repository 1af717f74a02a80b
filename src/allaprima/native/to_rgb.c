/* Convolution 9x9 of channels-last bfloat16 to three channels of float32. */

#include "winograd.h"

enum { KERNEL = 9, CHUNK = 32, PIXELS_AT_ONCE = 8 };

int has_bfloat16(void) { return HAS_BFLOAT16; }

#if HAS_BFLOAT16

/* y (batch, height - 8, width - 8, 3) = x (batch, height, width, channels) * kernel + bias.
 * A kernel's row is 9 channels numbers of x that lie one after the other; they are taken CHUNK at
 * a time, the last of them masked: w (9, chunks, 3, CHUNK), filled up with zeros. */
void to_rgb(const uint16_t *x, const uint16_t *w, const float *bias, float *y, int batch,
            int height, int width, int channels, int threads) {
    int rows = height - KERNEL + 1, columns = width - KERNEL + 1, length = KERNEL * channels;
    int chunks = (length + CHUNK - 1) / CHUNK;
    __mmask32 last = length % CHUNK ? ((__mmask32)1 << length % CHUNK) - 1 : ~(__mmask32)0;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int row = 0; row < batch * rows; row++) {
        const uint16_t *top = x +
            ((size_t)(row / rows) * height + row % rows) * (size_t)width * channels;
        for (int j = 0; j < columns; j += PIXELS_AT_ONCE) {
            __m512 sum[PIXELS_AT_ONCE][3];
            int count = columns - j < PIXELS_AT_ONCE ? columns - j : PIXELS_AT_ONCE;
#pragma GCC unroll 8
            for (int n = 0; n < PIXELS_AT_ONCE; n++)
                for (int o = 0; o < 3; o++) sum[n][o] = _mm512_setzero_ps();
            for (int i = 0; i < KERNEL; i++)
                for (int k = 0; k < chunks; k++) {
                    const uint16_t *taps = w + (size_t)(i * chunks + k) * 3 * CHUNK;
                    const uint16_t *at = top + ((size_t)i * width + j) * channels + k * CHUNK;
                    __mmask32 mask = k == chunks - 1 ? last : ~(__mmask32)0;
                    __m512bh weights[3];
                    for (int o = 0; o < 3; o++)
                        weights[o] = (__m512bh)_mm512_loadu_si512(taps + o * CHUNK);
#pragma GCC unroll 8
                    for (int n = 0; n < PIXELS_AT_ONCE; n++) { /* those beyond: the last again */
                        int shift = n < count ? n : count - 1;
                        __m512bh values =
                            (__m512bh)_mm512_maskz_loadu_epi16(mask, at + shift * channels);
                        for (int o = 0; o < 3; o++)
                            sum[n][o] = _mm512_dpbf16_ps(sum[n][o], values, weights[o]);
                    }
                }
            for (int n = 0; n < count; n++)
                for (int o = 0; o < 3; o++)
                    y[((size_t)row * columns + j + n) * 3 + o] =
                        _mm512_reduce_add_ps(sum[n][o]) + bias[o];
        }
    }
}

#endif
