/* The time loops of recurrent layers, float32, forward and backward.
 *
 * A step is one product of a few rows with weights that stay in the cache, and a few elementwise
 * operations: in a framework most of it is the calls. Rows of a batch and directions know nothing
 * of one another, so each thread goes through all steps with its own, and waits for nobody.
 *
 * D directions, T steps, B rows, H channels, K summed. Arrays lie dense, the last index fastest.
 * No sum runs over rows: the number of threads changes no bit.
 */

#include "recurrent.h"

/* Columns of a panel, in which weights are packed: two vectors. */
#define PANEL (2 * LANES)

/* ---- products ---- */

int64_t panel(void) { return PANEL; }

/* Weights (K, N) into panels (N / PANEL rounded up, K, PANEL), zeros at the end. */
void pack(const float *weights, float *packed, int64_t k, int64_t n) {
    for (int64_t first = 0; first < n; first += PANEL)
        for (int64_t i = 0; i < k; i++)
            for (int64_t j = 0; j < PANEL; j++)
                *packed++ = first + j < n ? weights[i * n + first + j] : 0.0f;
}

/* out (rows, N) = a (rows, K) x one panel, rows <= ROWS a constant where this is inlined; more:
 * add to what is there, of a whole panel.
 */
INLINE void block(const int rows, const int more, const float *a, int64_t stride,
                  const float *packed, int64_t k, float *out, int64_t out_stride,
                  int64_t columns) {
    vector sums[ROWS][2];
    for (int i = 0; i < rows; i++) {
        sums[i][0] = more ? *(vector *)(out + i * out_stride) : (vector){0};
        sums[i][1] = more ? *(vector *)(out + i * out_stride + LANES) : (vector){0};
    }
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

/* out (rows, at most PANEL) = a (rows, K) x one panel */
INLINE void by_panel(const int more, int64_t rows, const float *a, int64_t stride,
                     const float *packed, int64_t k, float *out, int64_t out_stride,
                     int64_t columns) {
    int64_t row = 0;
#define BLOCK(count) \
    block(count, more, a + row * stride, stride, packed, k, out + row * out_stride, out_stride, \
          columns)
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
#undef BLOCK
}

/* out (rows, N) = a (rows, K) x packed weights (K, N) */
static void product(int64_t rows, const float *a, int64_t stride, const float *packed, int64_t k,
                    int64_t n, float *out) {
    for (int64_t first = 0; first < n; first += PANEL, packed += k * PANEL)
        by_panel(0, rows, a, stride, packed, k, out + first, n,
                 n - first < PANEL ? n - first : PANEL);
}

/* ---- a GRU's cell ---- */

/* One step of some rows. inputs (rows, 3 H): z, r, n with biases; of_state (rows, 3 H): n, z, r of
 * the state; bias (H) of its n; last, out (rows, H): the state; added (rows, H) and gates
 * (rows, 3 H): n, z, r are kept unless NULL.
 */
static void cell(int64_t rows, int64_t h, const float *inputs, const float *of_state,
                 const float *bias, const float *last, float *out, float *added, float *gates) {
    float unused[4 * h];
    for (int64_t i = 0; i < rows; i++, inputs += 3 * h, of_state += 3 * h, last += h, out += h) {
        float *restrict to_added = added ? added + i * h : unused;
        float *restrict to_gates = gates ? gates + 3 * i * h : unused + h;
        float *restrict to = out;
#pragma GCC ivdep
        for (int64_t j = 0; j < h; j++) {
            const float from_state = of_state[j] + bias[j];
            const float z = sigmoid(inputs[j] + of_state[j + h]);
            const float r = sigmoid(inputs[j + h] + of_state[j + 2 * h]);
            const float n = hyperbolic(inputs[j + 2 * h] + r * from_state);
            to_added[j] = from_state;
            to_gates[j] = n;
            to_gates[j + h] = z;
            to_gates[j + 2 * h] = r;
            to[j] = n + z * (last[j] - n);
        }
    }
}

/* The gradient of a row's step: d_out, d_h (H) of the state after it, by what is shown and by what
 * follows -> of_state (3 H): n, z, r of the state; of_gates (3 H): z, r, n of the input; keep (H),
 * what goes to the state before directly.
 */
INLINE void cell_back(int64_t h, const float *d_out, const float *d_h, const float *gates,
                      const float *added, const float *last, float *restrict of_state,
                      float *restrict of_gates, float *restrict keep) {
    const float *n = gates, *z = gates + h, *r = gates + 2 * h;
#pragma GCC ivdep
    for (int64_t j = 0; j < h; j++) {
        const float d = d_out[j] + d_h[j];
        const float d_n = d * (1.0f - z[j]) * (1.0f - n[j] * n[j]);
        const float d_z = d * (last[j] - n[j]) * z[j] * (1.0f - z[j]);
        const float d_r = d_n * added[j] * r[j] * (1.0f - r[j]);
        of_state[j] = d_n * r[j];
        of_state[j + h] = of_gates[j] = d_z;
        of_state[j + 2 * h] = of_gates[j + h] = d_r;
        of_gates[j + 2 * h] = d_n;
        keep[j] = d * z[j];
    }
}

/* ---- GRU ---- */

typedef struct {
    int failed;
    int64_t steps, rows, channels, of_hidden;
    const float *const *inputs;
    const float *weights, *bias, *before;
    float *hidden, *added, *gates;
} gru_run;

static void gru_rows(void *given, int64_t direction, int64_t first, int64_t rows) {
    gru_run *g = given;
    const int64_t h = g->channels;
    const int64_t padded = (3 * h + PANEL - 1) / PANEL * PANEL;
    const float *inputs = g->inputs[direction];
    const float *weights = g->weights + direction * padded * h;
    const float *bias = g->bias + direction * h;
    const float *before = g->before + (direction * g->rows + first) * h;
    scratch own;
    if (!reserve(&own, rows * 3 * h)) {
        g->failed = 1;
        return;
    }
    float *of_state = piece(&own, rows * 3 * h);
    for (int64_t step = 0; step < g->steps; step++) {
        const int64_t start = direction * g->of_hidden + step * g->rows + first;
        float *hidden = g->hidden + start * h;
        product(rows, before, h, weights, h, 3 * h, of_state);
        cell(rows, h, inputs + (step * g->rows + first) * 3 * h, of_state, bias, before, hidden,
             g->added ? g->added + start * h : NULL, g->gates ? g->gates + start * 3 * h : NULL);
        before = hidden;
    }
    free(own.block);
}

/* inputs, of each direction (L, B, 3 H): z, r, n with their biases; weights: D times (H, 3 H), packed: n, z, r;
 * bias (D, H) of the state's n; before (D, B, H) -> hidden (D, L, B, H) and, if not NULL,
 * added (D, L, B, H) and gates (D, L, B, 3 H): n, z, r. of_hidden: rows from one direction
 * to the next. Returns whether there was memory for it, as all these do.
 */
int gru_forward(int64_t directions, int64_t steps, int64_t rows, int64_t channels,
                 const float *const *inputs, const float *weights, const float *bias,
                 const float *before, float *hidden, float *added, float *gates,
                 int64_t of_hidden, int64_t threads) {
    gru_run g = {0,    steps,  rows,   channels, of_hidden, inputs, weights,
                 bias, before, hidden, added,    gates};
    share(gru_rows, &g, directions, rows, ROWS / 2, threads);
    return !g.failed;
}

typedef struct {
    int failed;
    int64_t steps, rows, channels, of_hidden, at_start;
    int64_t out_strides[3]; /* of directions, steps, rows */
    const float *d_out, *weights, *hidden, *added, *gates;
    float *d_hidden, *of_state, *of_gates;
} gru_back;

static void gru_back_rows(void *given, int64_t direction, int64_t first, int64_t rows) {
    gru_back *g = given;
    const int64_t h = g->channels;
    const int64_t padded = (h + PANEL - 1) / PANEL * PANEL;
    const float *weights = g->weights + direction * padded * 3 * h;
    float *d_hidden = g->d_hidden + (direction * g->rows + first) * h;
    scratch own;
    if (!reserve(&own, (rows + 1) * h)) {
        g->failed = 1;
        return;
    }
    float *carried = piece(&own, rows * h), *nothing = piece(&own, h);
    for (int64_t step = g->steps - 1; step >= 0; step--) {
        const int64_t start = direction * g->of_hidden + step * g->rows + first;
        const int64_t mine = (direction * g->steps + step) * g->rows + first;
        for (int64_t i = 0; i < rows; i++) {
            const float *last = step || !g->at_start
                                    ? g->hidden + (start + i - g->rows) * h
                                    : nothing;
            const float *d_out = g->d_out + direction * g->out_strides[0] +
                                 step * g->out_strides[1] + (first + i) * g->out_strides[2];
            cell_back(h, d_out, d_hidden + i * h, g->gates + (start + i) * 3 * h,
                      g->added + (start + i) * h, last, g->of_state + (mine + i) * 3 * h,
                      g->of_gates + (mine + i) * 3 * h, carried + i * h);
        }
        product(rows, g->of_state + mine * 3 * h, 3 * h, weights, 3 * h, h, d_hidden);
        add(rows * h, d_hidden, carried);
    }
    free(own.block);
}

/* d_out (D, L, B, H) with strides for all but H; weights: D times (3 H, H), packed: n, z, r; hidden, added, gates as of
 * gru_forward, hidden[-1] being the state before where at_start is 0 -> d_hidden (D, B, H), read
 * and written: the gradient of the state behind the last step, then of that before the first;
 * of_state (D, L, B, 3 H): gradients of the state's n, z, r; of_gates (D, L, B, 3 H): of z, r and
 * the input's n. of_hidden: rows from one direction to the next.
 */
int gru_backward(int64_t directions, int64_t steps, int64_t rows, int64_t channels,
                  const float *d_out, int64_t of_direction, int64_t of_step, int64_t of_row,
                  const float *weights, const float *hidden,
                  const float *added, const float *gates, int64_t of_hidden, int64_t at_start,
                  float *d_hidden, float *of_state, float *of_gates, int64_t threads) {
    gru_back g = {0, steps, rows, channels, of_hidden, at_start, {of_direction, of_step, of_row},
                  d_out, weights, hidden, added, gates, d_hidden, of_state, of_gates};
    share(gru_back_rows, &g, directions, rows, ROWS / 2, threads);
    return !g.failed;
}

/* ---- an attention GRU that reads a memory (tacoskip/models/reading.py) ---- */

/* L steps, B rows, P panels of attention channels (A = P x PANEL, zeros at the end), S symbols, C
 * memory channels, H hidden channels; K width of the location filters (0: none), of which there are
 * F = Q x PANEL, zeros at the end.
 */
typedef struct {
    int64_t steps, rows, symbols, memory_channels, channels, panels, width, filter_panels;
    int64_t only_forward; /* a symbol is reached from itself and from the one before */
    int64_t back;         /* symbols behind the largest weight that are kept then, -1: all */
    const int64_t *lengths;      /* (B): symbols that can be read */
    const float *inputs;         /* (L, B, 3 H): z, r, n, with biases */
    const float *memory;         /* (B, S, C) */
    const float *keys;           /* (B, P, S, PANEL) */
    const float *of_context;     /* packed (C, 3 H): z, r, n */
    const float *of_state;       /* packed (H, 3 H): n, z, r */
    const float *state_bias;     /* (H) */
    const float *query;          /* packed (H, A) */
    const float *query_bias;     /* (A) */
    const float *energy;         /* (A) */
    const float *filters;        /* packed (2 K, F): of the last weights, of their sum */
    const float *mix;            /* packed (F, A) */
    float *hidden, *context;     /* (L, B, H), (L, B, C) */
    float *weights;              /* (L, B, S) */
    float *past;                 /* (L, B, 2, S + K - 1): last weights, their sum, padded */
    float *queries;              /* (L, B, A) */
    float *added, *gates;        /* as of gru_forward */
    /* To go on: (B, H), (B, C), (B, S) of the step before, NULL at the start; and the sum of all
     * weights (B, S), which is brought up to date. All NULL where nobody goes on.
     */
    const float *from_hidden, *from_context, *from_weights;
    float *total;
    int failed;
} reading;

/* What the filters see around each symbol: past (2, padded) -> (S, 2 K) */
static void windows(const float *past, int64_t padded, int64_t symbols, int64_t width,
                    float *out) {
    for (int64_t s = 0; s < symbols; s++, out += 2 * width) {
        memcpy(out, past + s, 4 * width);
        memcpy(out + width, past + padded + s, 4 * width);
    }
}

/* What the filters make of it: (S, 2 K) -> Q times (S, PANEL) */
static void filtered(const reading *r, int64_t symbols, const float *seen, float *out) {
    for (int64_t q = 0; q < r->filter_panels; q++)
        by_panel(0, symbols, seen, 2 * r->width, r->filters + q * 2 * r->width * PANEL,
                 2 * r->width, out + q * symbols * PANEL, PANEL, PANEL);
}

/* The sigmoids (S, PANEL) of one item and one panel. */
INLINE void open_panel(const reading *r, int64_t item, int64_t p, int64_t symbols,
                       const float *query, const float *places, float *restrict out) {
    const float *keys = r->keys + (item * r->panels + p) * r->symbols * PANEL;
    memset(out, 0, 4 * symbols * PANEL);
    for (int64_t q = 0; q < r->filter_panels; q++)
        by_panel(1, symbols, places + q * symbols * PANEL, PANEL,
                 r->mix + (p * r->filter_panels + q) * PANEL * PANEL, PANEL, out, PANEL, PANEL);
    for (int64_t s = 0; s < symbols; s++)
#pragma GCC ivdep
        for (int64_t j = 0; j < PANEL; j++)
            out[s * PANEL + j] = sigmoid(keys[s * PANEL + j] + query[p * PANEL + j] +
                                         out[s * PANEL + j]);
}

static void read_rows(void *given, int64_t direction, int64_t first, int64_t rows) {
    reading *r = given;
    const int64_t h = r->channels, c = r->memory_channels, symbols = r->symbols;
    const int64_t a = r->panels * PANEL, padded = symbols + r->width - 1, half = r->width / 2;
    const int64_t seen_by = 2 * r->width, count = r->filter_panels * PANEL, most = h > c ? h : c;
    (void)direction;
    scratch own;
    if (!reserve(&own, rows * (6 * h + 2 * symbols + most) +
                           symbols * (PANEL + 1 + seen_by + count))) {
        r->failed = 1;
        return;
    }
    float *inputs = piece(&own, rows * 3 * h), *of_state = piece(&own, rows * 3 * h);
    float *last = piece(&own, rows * symbols), *total = piece(&own, rows * symbols);
    float *nothing = piece(&own, rows * most);
    float *opened = piece(&own, symbols * PANEL), *logits = piece(&own, symbols);
    float *seen = piece(&own, symbols * seen_by), *places = piece(&own, symbols * count);
    if (r->from_weights) {
        memcpy(last, r->from_weights + first * symbols, 4 * rows * symbols);
        memcpy(total, r->total + first * symbols, 4 * rows * symbols);
    } else if (r->width) {
        for (int64_t i = 0; i < rows; i++) last[i * symbols] = 1.0f;
    }
    const float *context = r->from_context ? r->from_context + first * c : nothing;
    const float *hidden = r->from_hidden ? r->from_hidden + first * h : nothing;
    for (int64_t step = 0; step < r->steps; step++) {
        const int64_t at = step * r->rows + first;
        float *queries = r->queries + at * a;
        product(rows, context, c, r->of_context, c, 3 * h, inputs);
        add(rows * 3 * h, inputs, r->inputs + at * 3 * h);
        product(rows, hidden, h, r->of_state, h, 3 * h, of_state);
        cell(rows, h, inputs, of_state, r->state_bias, hidden, r->hidden + at * h,
             r->added + at * h, r->gates + at * 3 * h);
        product(rows, r->hidden + at * h, h, r->query, h, a, queries);
        for (int64_t i = 0; i < rows; i++) {
            const int64_t item = first + i, length = r->lengths[item];
            float *mine = last + i * symbols, *sums = total + i * symbols;
            float *weights = r->weights + (at + i) * symbols, *query = queries + i * a;
            add(a, query, r->query_bias);
            if (r->width) {
                float *past = r->past + (at + i) * 2 * padded;
                memset(past, 0, 4 * 2 * padded);
                memcpy(past + half, mine, 4 * symbols);
                memcpy(past + padded + half, sums, 4 * symbols);
                windows(past, padded, length, r->width, seen);
                filtered(r, length, seen, places);
            }
            memset(logits, 0, 4 * length);
            for (int64_t p = 0; p < r->panels; p++) {
                open_panel(r, item, p, length, query, places, opened);
                const vector low = *(const vector *)(r->energy + p * PANEL);
                const vector high = *(const vector *)(r->energy + p * PANEL + LANES);
                for (int64_t s = 0; s < length; s++) {
                    const vector sum = low * *(const vector *)(opened + s * PANEL) +
                                       high * *(const vector *)(opened + s * PANEL + LANES);
                    float one = 0.0f;
                    for (int64_t j = 0; j < LANES; j++) one += sum[j];
                    logits[s] += one;
                }
            }
            if (r->only_forward) {
                int64_t largest = 0;
                for (int64_t s = 1; s < length; s++)
                    if (mine[s] > mine[largest]) largest = s;
                const int64_t kept = r->back < 0 ? 0 : largest - r->back;
                for (int64_t s = 0; s < length; s++) {
                    const float reach = s < kept ? 0.0f : reach_of(mine, s);
                    logits[s] += reach <= 0.0f ? -INFINITY
                                               : logf(reach < LEAST ? LEAST : reach);
                }
            }
            softmax(length, logits, weights);
            memset(weights + length, 0, 4 * (symbols - length));
            memcpy(mine, weights, 4 * symbols);
            add(symbols, sums, weights);
            float *restrict out = r->context + (at + i) * c;
            memset(out, 0, 4 * c);
            for (int64_t s = 0; s < length; s++) {
                const float *memory = r->memory + (item * symbols + s) * c;
#pragma GCC ivdep
                for (int64_t j = 0; j < c; j++) out[j] += weights[s] * memory[j];
            }
        }
        context = r->context + at * c, hidden = r->hidden + at * h;
    }
    if (r->total) memcpy(r->total + first * symbols, total, 4 * rows * symbols);
    free(own.block);
}

int read_forward(reading *r, int64_t threads) {
    share(read_rows, r, 1, r->rows, 1, threads);
    return !r->failed;
}

typedef struct {
    reading r;
    const float *d_hidden, *d_context, *d_weights; /* (L, B, H), (L, B, C), (L, B, S) */
    const float *of_context;                       /* packed (3 H, C): z, r, n */
    const float *of_state;                         /* packed (3 H, H): n, z, r */
    const float *query;                            /* packed (A, H), with the factor energy */
    const float *mix;                              /* packed (A, F), with the factor energy */
    const float *filters;                          /* packed (F, 2 K) */
    float *d_contexts;                             /* (L, B, C): of the contexts, in all */
    float *d_keys;    /* (B, P, S, PANEL), zeros; lacks the factor energy, as the next two do */
    float *d_queries; /* (L, B, A) */
    float *d_mix;     /* (B, P, F, PANEL), zeros; lacks the factor as well */
    float *d_filters; /* (B, Q, 2 K, PANEL), zeros */
    float *d_energy;  /* (B, A), zeros */
    float *of_state_rows, *of_gates; /* (L, B, 3 H): n, z, r of the state; z, r, n of the input */
} reading_back;

static void read_back_rows(void *given, int64_t direction, int64_t first, int64_t rows) {
    reading_back *g = given;
    const reading *r = &g->r;
    const int64_t h = r->channels, c = r->memory_channels, symbols = r->symbols;
    const int64_t a = r->panels * PANEL, padded = symbols + r->width - 1;
    const int64_t shown = 2 * r->width, half = r->width / 2;
    const int64_t wide = (shown + PANEL - 1) / PANEL * PANEL, count = r->filter_panels * PANEL;
    (void)direction;
    scratch own;
    if (!reserve(&own, rows * (3 * h + c + 2 * symbols) + h + 2 * (padded + 1) +
                           symbols * (2 * PANEL + 1 + 2 * shown + wide + 3 * count))) {
        g->r.failed = 1;
        return;
    }
    float *d_h = piece(&own, rows * h), *d_c = piece(&own, rows * c), *keep = piece(&own, rows * h);
    float *d_last = piece(&own, rows * symbols), *d_total = piece(&own, rows * symbols);
    float *of_query = piece(&own, rows * h), *nothing = piece(&own, h);
    float *opened = piece(&own, symbols * PANEL), *inner = piece(&own, symbols * PANEL);
    float *d_logits = piece(&own, symbols), *d_past = piece(&own, 2 * (padded + 1));
    float *seen = piece(&own, symbols * shown), *turned = piece(&own, symbols * shown);
    float *d_seen = piece(&own, symbols * wide), *places = piece(&own, symbols * count);
    float *across = piece(&own, symbols * count), *d_places = piece(&own, symbols * count);
    for (int64_t step = r->steps - 1; step >= 0; step--) {
        const int64_t at = step * r->rows + first, before = at - r->rows;
        memcpy(g->d_contexts + at * c, g->d_context + at * c, 4 * rows * c);
        add(rows * c, g->d_contexts + at * c, d_c);
        for (int64_t i = 0; i < rows; i++) {
            const int64_t item = first + i, length = r->lengths[item];
            const float *weights = r->weights + (at + i) * symbols;
            const float *d_context = g->d_contexts + (at + i) * c;
            float *mine = d_last + i * symbols, *sums = d_total + i * symbols;
            float mean = 0.0f;
            for (int64_t s = 0; s < length; s++) {
                const float *memory = r->memory + (item * symbols + s) * c;
                vector sum = {0};
                int64_t j = 0;
                for (; j + LANES <= c; j += LANES)
                    sum += *(const vector *)(memory + j) * *(const vector *)(d_context + j);
                float one = 0.0f;
                for (int64_t k = 0; k < LANES; k++) one += sum[k];
                for (; j < c; j++) one += memory[j] * d_context[j];
                d_logits[s] = one + g->d_weights[(at + i) * symbols + s] + mine[s] + sums[s];
                mean += d_logits[s] * weights[s];
            }
            for (int64_t s = 0; s < length; s++) d_logits[s] = weights[s] * (d_logits[s] - mean);
            memset(mine, 0, 4 * symbols);
            if (r->only_forward && step) {
                const float *last = r->weights + (before + i) * symbols;
                for (int64_t s = 0; s < length; s++) {
                    const float reach = reach_of(last, s);
                    const float one = reach >= LEAST ? d_logits[s] / reach : 0.0f;
                    mine[s] += one;
                    if (s) mine[s - 1] += one;
                }
            }
            if (r->width) {
                windows(r->past + (at + i) * 2 * padded, padded, length, r->width, seen);
                filtered(r, length, seen, places);
                for (int64_t k = 0; k < shown; k++)
                    for (int64_t s = 0; s < length; s++) turned[k * length + s] = seen[s * shown + k];
                for (int64_t k = 0; k < count; k++) {
                    const float *from = places + k / PANEL * length * PANEL + k % PANEL;
                    for (int64_t s = 0; s < length; s++) across[k * length + s] = from[s * PANEL];
                }
                memset(d_places, 0, 4 * length * count);
                memset(d_seen, 0, 4 * length * wide);
            }
            for (int64_t p = 0; p < r->panels; p++) {
                open_panel(r, item, p, length, r->queries + (at + i) * a, places, opened);
                float *d_keys = g->d_keys + (item * r->panels + p) * symbols * PANEL;
                float *restrict d_query = g->d_queries + (at + i) * a + p * PANEL;
                float *restrict d_energy = g->d_energy + item * a + p * PANEL;
                memset(d_query, 0, 4 * PANEL);
                for (int64_t s = 0; s < length; s++) {
                    const float d = d_logits[s];
                    const float *from = opened + s * PANEL;
                    float *restrict to = inner + s * PANEL, *restrict key = d_keys + s * PANEL;
#pragma GCC ivdep
                    for (int64_t j = 0; j < PANEL; j++) {
                        const float one = d * from[j] * (1.0f - from[j]);
                        to[j] = one;
                        key[j] += one;
                        d_query[j] += one;
                        d_energy[j] += d * from[j];
                    }
                }
                by_panel(1, count, across, length, inner, length,
                         g->d_mix + (item * r->panels + p) * count * PANEL, PANEL, PANEL);
                for (int64_t q = 0; q < r->filter_panels; q++)
                    by_panel(1, length, inner, PANEL, g->mix + (q * a + p * PANEL) * PANEL, PANEL,
                             d_places + q * length * PANEL, PANEL, PANEL);
            }
            for (int64_t q = 0; q < r->filter_panels; q++) {
                const float *d = d_places + q * length * PANEL;
                by_panel(1, shown, turned, length, d, length,
                         g->d_filters + (item * r->filter_panels + q) * shown * PANEL, PANEL,
                         PANEL);
                for (int64_t w = 0; w < wide; w += PANEL)
                    by_panel(1, length, d, PANEL,
                             g->filters + (w * r->filter_panels + q * PANEL) * PANEL, PANEL,
                             d_seen + w, wide, PANEL);
            }
            if (r->width && step) {
                memset(d_past, 0, 4 * 2 * padded);
                for (int64_t s = 0; s < length; s++) {
                    add(r->width, d_past + s, d_seen + s * wide);
                    add(r->width, d_past + padded + s, d_seen + s * wide + r->width);
                }
                add(symbols, mine, d_past + half);
                add(symbols, sums, d_past + padded + half);
            }
        }
        product(rows, g->d_queries + at * a, a, g->query, a, h, of_query);
        for (int64_t i = 0; i < rows; i++) {
            add(h, d_h + i * h, of_query + i * h);
            cell_back(h, g->d_hidden + (at + i) * h, d_h + i * h, r->gates + (at + i) * 3 * h,
                      r->added + (at + i) * h, step ? r->hidden + (before + i) * h : nothing,
                      g->of_state_rows + (at + i) * 3 * h, g->of_gates + (at + i) * 3 * h,
                      keep + i * h);
        }
        product(rows, g->of_state_rows + at * 3 * h, 3 * h, g->of_state, 3 * h, h, d_h);
        add(rows * h, d_h, keep);
        product(rows, g->of_gates + at * 3 * h, 3 * h, g->of_context, 3 * h, c, d_c);
    }
    free(own.block);
}

int read_backward(reading_back *g, int64_t threads) {
    share(read_back_rows, g, 1, g->r.rows, 1, threads);
    return !g->r.failed;
}

/* Of the two structures, for who fills them in from elsewhere. */
int64_t reading_size(void) { return sizeof(reading); }
int64_t reading_back_size(void) { return sizeof(reading_back); }
