/* The time loops of recurrent layers, float32, forward and backward.
 *
 * A step is one product of a few rows with weights that stay in the cache, and a few elementwise
 * operations: in a framework most of it is the calls. Rows of a batch and directions know nothing
 * of one another, so each thread goes through all steps with its own, and waits for nobody.
 *
 * D directions, T steps, B rows, H channels, K summed. Arrays lie dense, the last index fastest.
 * Nothing here is associative across rows: the number of threads changes no bit.
 */

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 16
#define ROWS 8
#elif defined(__AVX__)
#define LANES 8
#define ROWS 4
#else
#define LANES 4
#define ROWS 4
#endif
/* Columns of a panel, in which weights are packed: two vectors. */
#define PANEL (2 * LANES)

typedef float vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

/* ---- elementwise ---- */

/* e^x: 2^n by its bits, the rest by its series (Taylor, degree 7). NaN stays NaN. */
INLINE float exponential(float x) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to a whole number */
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float shifted = x * 1.44269504088896341f + magic;
    float n = shifted - magic;
    float r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    float p = 1.0f / 5040.0f;
    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    int32_t bits;
    memcpy(&bits, &shifted, 4);
    bits = (int32_t)((uint32_t)(bits - 0x4B400000 + 127) << 23);
    float power;
    memcpy(&power, &bits, 4);
    return p * power;
}

INLINE float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

INLINE float hyperbolic(float x) { return 1.0f - 2.0f / (1.0f + exponential(2.0f * x)); }

/* ---- products ---- */

int64_t panel(void) { return PANEL; }

/* Weights (K, N) into panels (N / PANEL rounded up, K, PANEL), zeros at the end. */
void pack(const float *weights, float *packed, int64_t k, int64_t n) {
    for (int64_t first = 0; first < n; first += PANEL)
        for (int64_t i = 0; i < k; i++)
            for (int64_t j = 0; j < PANEL; j++)
                *packed++ = first + j < n ? weights[i * n + first + j] : 0.0f;
}

/* out (rows, N) = a (rows, K) x one panel, rows <= ROWS a constant where this is inlined. */
INLINE void block(const int rows, const float *a, int64_t stride, const float *packed, int64_t k,
                  float *out, int64_t out_stride, int64_t columns) {
    vector sums[ROWS][2];
    for (int i = 0; i < rows; i++) sums[i][0] = sums[i][1] = (vector){0};
    for (int64_t at = 0; at < k; at++) {
        const vector low = *(const vector *)(packed + at * PANEL);
        const vector high = *(const vector *)(packed + at * PANEL + LANES);
        for (int i = 0; i < rows; i++) {
            const float one = a[i * stride + at];
            sums[i][0] += one * low;
            sums[i][1] += one * high;
        }
    }
    for (int i = 0; i < rows; i++) {
        if (columns == PANEL) {
            *(vector *)(out + i * out_stride) = sums[i][0];
            *(vector *)(out + i * out_stride + LANES) = sums[i][1];
        } else {
            memcpy(out + i * out_stride, sums[i], 4 * columns);
        }
    }
}

/* out (rows, N) = a (rows, K) x packed weights (K, N) */
static void product(int64_t rows, const float *a, int64_t stride, const float *packed, int64_t k,
                    int64_t n, float *out) {
    for (int64_t first = 0; first < n; first += PANEL, packed += k * PANEL) {
        const int64_t columns = n - first < PANEL ? n - first : PANEL;
        int64_t row = 0;
#define BLOCK(count) \
    block(count, a + row * stride, stride, packed, k, out + row * n + first, n, columns)
        for (; row + ROWS <= rows; row += ROWS) BLOCK(ROWS);
        switch (rows - row) {
        case 1: BLOCK(1); break;
        case 2: BLOCK(2); break;
        case 3: BLOCK(3); break;
#if ROWS > 4
        case 4: BLOCK(4); break;
        case 5: BLOCK(5); break;
        case 6: BLOCK(6); break;
        case 7: BLOCK(7); break;
#endif
        }
    }
}

/* ---- threads ---- */

typedef struct {
    void (*work)(void *given, int64_t direction, int64_t first, int64_t rows);
    void *given;
    int64_t direction, first, rows;
} task;

static void *run(void *given) {
    task *one = given;
    one->work(one->given, one->direction, one->first, one->rows);
    return NULL;
}

/* Work off directions and rows: each thread a direction and some of its rows. */
static void share(void (*work)(void *, int64_t, int64_t, int64_t), void *given, int64_t directions,
                  int64_t rows, int64_t threads) {
    int64_t blocks = (threads + directions - 1) / directions;
    if (blocks > rows) blocks = rows;
    const int64_t count = directions * blocks;
    task tasks[count];
    pthread_t started[count];
    char runs[count];
    for (int64_t i = 0; i < count; i++) {
        const int64_t part = i % blocks, first = part * rows / blocks;
        tasks[i] = (task){work, given, i / blocks, first, (part + 1) * rows / blocks - first};
    }
    /* The first is this thread's own; and so are those that would be one too many. */
    for (int64_t i = 1; i < count; i++)
        runs[i] = i < threads && !pthread_create(&started[i], NULL, run, &tasks[i]);
    run(&tasks[0]);
    for (int64_t i = 1; i < count; i++) {
        if (runs[i])
            pthread_join(started[i], NULL);
        else
            run(&tasks[i]);
    }
}

/* ---- GRU ---- */

typedef struct {
    int64_t steps, rows, channels, of_hidden;
    const float *const *inputs;
    const float *weights, *bias, *before;
    float *hidden, *added, *gates;
} gru_run;

static void gru_rows(void *given, int64_t direction, int64_t first, int64_t rows) {
    const gru_run *g = given;
    const int64_t h = g->channels;
    const int64_t padded = (3 * h + PANEL - 1) / PANEL * PANEL;
    const float *inputs = g->inputs[direction];
    const float *weights = g->weights + direction * padded * h;
    const float *bias = g->bias + direction * h;
    const float *before = g->before + (direction * g->rows + first) * h;
    float *of_state = malloc(4 * rows * 3 * h);
    for (int64_t step = 0; step < g->steps; step++) {
        const int64_t start = direction * g->of_hidden + step * g->rows + first;
        float *hidden = g->hidden + start * h;
        product(rows, before, h, weights, h, 3 * h, of_state);
        for (int64_t i = 0; i < rows; i++) {
            const float *given_n = inputs + ((step * g->rows + first + i) * 3 + 2) * h;
            const float *given_z = given_n - 2 * h, *given_r = given_n - h;
            const float *state_n = of_state + i * 3 * h, *state_z = state_n + h;
            const float *state_r = state_n + 2 * h, *last = before + i * h;
            float *now = hidden + i * h;
            if (g->gates) {
                float *restrict to_n = g->gates + (start + i) * 3 * h;
                float *restrict to_added = g->added + (start + i) * h;
                float *restrict out = now;
#pragma GCC ivdep
                for (int64_t j = 0; j < h; j++) {
                    const float added = state_n[j] + bias[j];
                    const float z = sigmoid(given_z[j] + state_z[j]);
                    const float r = sigmoid(given_r[j] + state_r[j]);
                    const float n = hyperbolic(given_n[j] + r * added);
                    to_added[j] = added;
                    to_n[j] = n;
                    to_n[j + h] = z;
                    to_n[j + 2 * h] = r;
                    out[j] = n + z * (last[j] - n);
                }
            } else {
                float *restrict out = now;
#pragma GCC ivdep
                for (int64_t j = 0; j < h; j++) {
                    const float added = state_n[j] + bias[j];
                    const float z = sigmoid(given_z[j] + state_z[j]);
                    const float r = sigmoid(given_r[j] + state_r[j]);
                    const float n = hyperbolic(given_n[j] + r * added);
                    out[j] = n + z * (last[j] - n);
                }
            }
        }
        before = hidden;
    }
    free(of_state);
}

/* inputs, of each direction (L, B, 3 H): z, r, n with their biases; weights: D times (H, 3 H), packed: n, z, r;
 * bias (D, H) of the state's n; before (D, B, H) -> hidden (D, L, B, H) and, if not NULL,
 * added (D, L, B, H) and gates (D, L, B, 3 H): n, z, r. of_hidden: rows from one direction
 * to the next.
 */
void gru_forward(int64_t directions, int64_t steps, int64_t rows, int64_t channels,
                 const float *const *inputs, const float *weights, const float *bias,
                 const float *before, float *hidden, float *added, float *gates,
                 int64_t of_hidden, int64_t threads) {
    gru_run g = {steps, rows,   channels, of_hidden, inputs, weights,
                 bias,  before, hidden,   added,     gates};
    share(gru_rows, &g, directions, rows, threads);
}

typedef struct {
    int64_t steps, rows, channels, of_hidden, at_start;
    int64_t out_strides[3]; /* of directions, steps, rows */
    const float *d_out, *weights, *hidden, *added, *gates;
    float *d_hidden, *of_state, *of_gates;
} gru_back;

static void gru_back_rows(void *given, int64_t direction, int64_t first, int64_t rows) {
    const gru_back *g = given;
    const int64_t h = g->channels;
    const int64_t padded = (h + PANEL - 1) / PANEL * PANEL;
    const float *weights = g->weights + direction * padded * 3 * h;
    float *d_hidden = g->d_hidden + (direction * g->rows + first) * h;
    float *carried = malloc(4 * rows * h);
    float *nothing = calloc(h, 4);
    for (int64_t step = g->steps - 1; step >= 0; step--) {
        const int64_t start = direction * g->of_hidden + step * g->rows + first;
        const int64_t mine = (direction * g->steps + step) * g->rows + first;
        for (int64_t i = 0; i < rows; i++) {
            const float *n = g->gates + (start + i) * 3 * h, *z = n + h, *r = n + 2 * h;
            const float *added = g->added + (start + i) * h;
            const float *last = step || !g->at_start
                                    ? g->hidden + (start + i - g->rows) * h
                                    : nothing;
            const float *d_out = g->d_out + direction * g->out_strides[0] +
                                 step * g->out_strides[1] + (first + i) * g->out_strides[2];
            const float *d_h = d_hidden + i * h;
            float *restrict to_state = g->of_state + (mine + i) * 3 * h;
            float *restrict to_gates = g->of_gates + (mine + i) * 3 * h;
            float *restrict keep = carried + i * h;
#pragma GCC ivdep
            for (int64_t j = 0; j < h; j++) {
                const float d = d_out[j] + d_h[j];
                const float d_n = d * (1.0f - z[j]) * (1.0f - n[j] * n[j]);
                const float d_z = d * (last[j] - n[j]) * z[j] * (1.0f - z[j]);
                const float d_r = d_n * added[j] * r[j] * (1.0f - r[j]);
                to_state[j] = d_n * r[j];
                to_state[j + h] = to_gates[j] = d_z;
                to_state[j + 2 * h] = to_gates[j + h] = d_r;
                to_gates[j + 2 * h] = d_n;
                keep[j] = d * z[j];
            }
        }
        product(rows, g->of_state + mine * 3 * h, 3 * h, weights, 3 * h, h, d_hidden);
        for (int64_t j = 0; j < rows * h; j++) d_hidden[j] += carried[j];
    }
    free(carried);
    free(nothing);
}

/* d_out (D, L, B, H) with strides for all but H; weights: D times (3 H, H), packed: n, z, r; hidden, added, gates as of
 * gru_forward, hidden[-1] being the state before where at_start is 0 -> d_hidden (D, B, H), read
 * and written: the gradient of the state behind the last step, then of that before the first;
 * of_state (D, L, B, 3 H): gradients of the state's n, z, r; of_gates (D, L, B, 3 H): of z, r and
 * the input's n. of_hidden: rows from one direction to the next.
 */
void gru_backward(int64_t directions, int64_t steps, int64_t rows, int64_t channels,
                  const float *d_out, int64_t of_direction, int64_t of_step, int64_t of_row,
                  const float *weights, const float *hidden,
                  const float *added, const float *gates, int64_t of_hidden, int64_t at_start,
                  float *d_hidden, float *of_state, float *of_gates, int64_t threads) {
    gru_back g = {steps, rows, channels, of_hidden, at_start, {of_direction, of_step, of_row},
                  d_out, weights, hidden, added, gates, d_hidden, of_state, of_gates};
    share(gru_back_rows, &g, directions, rows, threads);
}
