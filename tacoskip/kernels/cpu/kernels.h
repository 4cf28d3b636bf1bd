/* GRU, attention loop and batch norm in one precision; float32.c and bf16.c say which.
 *
 * A step of a recurrent layer is one product of a few rows with weights that stay in the cache, and
 * a few elementwise operations: in a framework most of it is the calls. Items of a batch and
 * directions are independent, so each thread takes all steps of its own and waits for no other. No
 * sum runs over two threads' items: the number of threads changes no bit.
 *
 * Arrays of `stored` and `gate` are in the precision, those of float are float32. Channels come in
 * whole vectors. Arrays lie dense, the last index fastest.
 *
 * B items, T frames or L steps, C channels, D directions, H hidden channels.
 */

/* ---- products ---- */

/* Columns of a panel: weights (K, N) are packed as (N / PANEL, K / GROUP, PANEL, GROUP). */
#define PANEL (2 * LANES)

/* A kernel: `work` over directions and `count` rows, see `share`. */
#define KERNEL(name, type, work, directions, count, least, a_row, more)        \
    int EXPORT(name)(type *g, int64_t threads) {                               \
        return share(work, g, directions, count, least, threads, a_row, more); \
    }

int64_t EXPORT(lanes)(void) { return LANES; }
int64_t EXPORT(group)(void) { return GROUP; }

/* Add a (rows, K) x one panel to out (rows, at most PANEL). */
INLINE void add_block(const int rows, const stored *a, int64_t stride, const stored *packed,
                      int64_t k, float *out, int64_t n, int64_t columns) {
    vector sums[ROWS][2];
    for (int i = 0; i < rows; i++) {
        sums[i][0] = VECTOR(out + i * n);
        sums[i][1] = columns > LANES ? VECTOR(out + i * n + LANES) : all(0.0f);
    }
    for (int64_t at = 0; at < k; at += GROUP, packed += GROUP * PANEL) {
        const group left = load_group(packed), right = load_group(packed + GROUP * LANES);
        for (int i = 0; i < rows; i++) {
            const group one = repeat(a + i * stride + at);
            sums[i][0] = multiply_add(one, left, sums[i][0]);
            sums[i][1] = multiply_add(one, right, sums[i][1]);
        }
    }
    for (int i = 0; i < rows; i++) {
        VECTOR(out + i * n) = sums[i][0];
        if (columns > LANES) VECTOR(out + i * n + LANES) = sums[i][1];
    }
}

/* Add a (rows, K) x packed weights (K, N) to out (rows, N); K whole groups. */
static void add_product(int64_t rows, const stored *a, int64_t stride, const stored *packed,
                        int64_t k, int64_t n, float *out) {
    for (int64_t first = 0; first < n; first += PANEL, packed += k * PANEL) {
        int64_t row = 0;
#define BLOCKS(count) \
    for (; row + count <= rows; row += count) \
        add_block(count, a + row * stride, stride, packed, k, out + row * n + first, n, n - first)
        BLOCKS(ROWS);
        BLOCKS(4);
        BLOCKS(2);
        BLOCKS(1);
#undef BLOCKS
    }
}

/* The same, of an out that is zero before. */
static void product(int64_t rows, const stored *a, int64_t stride, const stored *packed, int64_t k,
                    int64_t n, float *out) {
    memset(out, 0, 4 * rows * n);
    add_product(rows, a, stride, packed, k, n, out);
}

/* n numbers in the precision. */
static void store_row(stored *to, const float *from, int64_t n) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) store(to + i, VECTOR(from + i));
    if (i < n) {
        float rest[LANES] = {0};
        stored narrowed[LANES];
        memcpy(rest, from + i, 4 * (n - i));
        store(narrowed, VECTOR(rest));
        memcpy(to + i, narrowed, sizeof(stored) * (n - i));
    }
}

/* Weights (S) of logits (S), which lie in whole vectors and are lost. */
static void softmax(int64_t symbols, float *restrict logits, float *restrict weights) {
    float most = -INFINITY, sum = 0.0f;
    for (int64_t s = symbols; s < whole(symbols, LANES); s++) logits[s] = -INFINITY;
    for (int64_t s = 0; s < symbols; s++) most = logits[s] > most ? logits[s] : most;
    for (int64_t s = 0; s < symbols; s += LANES) {
        const vector x = VECTOR(logits + s) - most;
        VECTOR(logits + s) = chosen(x < all(-87.0f), all(0.0f), exponential(x));
    }
    for (int64_t s = 0; s < symbols; s++) sum += logits[s];
    for (int64_t s = 0; s < symbols; s++) weights[s] = logits[s] / sum;
}

/* The next numbers of a thread's own memory. */
static void *piece(float **own, int64_t floats) {
    *own += floats;
    return *own - floats;
}

#define COPY(to, from, count) memcpy(to, from, sizeof(*(to)) * (count))
#define CLEAR(to, count) memset(to, 0, sizeof(*(to)) * (count))

/* ---- a GRU's cell ---- */

/* A vector of channels of a step. inputs (3 H): z, r, n with biases, and more of them unless NULL;
 * of_state (3 H): n, z, r of the state; last (H): it -> added (H), what the state adds to n, and
 * gates (3 H): n, z, r, unless NULL. Returns the state. gates may lie where inputs lie.
 */
INLINE vector cell(int64_t h, const stored *inputs, const float *more, const float *of_state,
                   const float *bias, const float *last, stored *added, gate *gates) {
    vector to_z = load(inputs), to_r = load(inputs + h), to_n = load(inputs + 2 * h);
    if (more) {
        to_z += VECTOR(more);
        to_r += VECTOR(more + h);
        to_n += VECTOR(more + 2 * h);
    }
    const vector from_state = VECTOR(of_state) + VECTOR(bias);
    const vector z = sigmoid(to_z + VECTOR(of_state + h));
    const vector r = sigmoid(to_r + VECTOR(of_state + 2 * h));
    const vector n = hyperbolic(to_n + r * from_state);
    if (gates) {
        store(added, from_state);
        store_gate(gates, n);
        store_gate(gates + h, z);
        store_gate(gates + 2 * h, r);
    }
    return n + z * (VECTOR(last) - n);
}

/* The gradient of a vector of channels of a step: d of the state after it, last: the state before
 * -> of_state (3 H): n, z, r; of_gates (3 H): z, r, n of the input; both added to d_bias (4 H):
 * n of the state, z, r, n of the input. Returns the gradient of the state before, directly.
 */
INLINE vector cell_back(int64_t h, vector d, const gate *gates, const stored *added, vector last,
                        stored *of_state, stored *of_gates, float *d_bias) {
    const vector n = load_gate(gates), z = load_gate(gates + h), r = load_gate(gates + 2 * h);
    const vector closed = d * (1.0f - z), d_n = closed * (1.0f - n * n);
    const vector d_z = (last - n) * z * closed, of_n = d_n * r;
    const vector d_r = of_n * load(added) * (1.0f - r);
    store(of_state, of_n);
    store(of_state + h, d_z);
    store(of_state + 2 * h, d_r);
    store(of_gates, d_z);
    store(of_gates + h, d_r);
    store(of_gates + 2 * h, d_n);
    VECTOR(d_bias) += of_n;
    VECTOR(d_bias + h) += d_z;
    VECTOR(d_bias + 2 * h) += d_r;
    VECTOR(d_bias + 3 * h) += d_n;
    return d * z;
}

/* ---- GRU ---- */

typedef struct {
    int64_t items, frames, directions, channels;
    const int64_t *lengths; /* (B) */
    const stored *inputs;   /* (B, T, D, 3 H): z, r, n with their biases */
    const stored *weights;  /* D times packed: (H, 3 H): n, z, r; backward (3 H, H) */
    const float *bias;      /* (D, H) of the state's n */
    stored *out;            /* (B, T, D, H), zero beyond the lengths */
    stored *added;          /* (B, T, D, H), or NULL */
    gate *gates;            /* (B, T, D, 3 H), may be where inputs are, or NULL */
    const stored *d_out;    /* (B, T, D, H) */
    stored *of_state;       /* (D, B, T, 3 H): n, z, r */
    stored *of_gates;       /* (B, T, D, 3 H): z, r, n */
    float *d_bias;          /* (B, D, 4 H), zeros */
} gru;

/* The frame of a step: the second direction begins at the last. */
INLINE int64_t frame_of(const gru *g, int64_t direction, int64_t item, int64_t step) {
    const int64_t length = g->lengths[item];
    return direction && step < length ? length - 1 - step : step;
}

WORKER(gru_rows, rows) {
    gru *g = given;
    const int64_t h = g->channels;
    const stored *weights = g->weights + direction * whole(3 * h, PANEL) * h;
    const float *bias = g->bias + direction * h;
    float *of_state = piece(&own, rows * 3 * h), *state = piece(&own, rows * h);
    stored *last = piece(&own, rows * h);
    for (int64_t step = 0; step < g->frames; step++) {
        product(rows, last, h, weights, h, 3 * h, of_state);
        for (int64_t i = 0; i < rows; i++) {
            const int64_t item = first + i, t = frame_of(g, direction, item, step);
            const int64_t at = (item * g->frames + t) * g->directions + direction;
            if (t >= g->lengths[item]) {
                CLEAR(g->out + at * h, h);
                continue;
            }
            for (int64_t j = 0; j < h; j += LANES) {
                const vector next =
                    cell(h, g->inputs + at * 3 * h + j, NULL, of_state + i * 3 * h + j, bias + j,
                         state + i * h + j, g->added ? g->added + at * h + j : NULL,
                         g->gates ? g->gates + at * 3 * h + j : NULL);
                VECTOR(state + i * h + j) = next;
                store(last + i * h + j, next);
                store(g->out + at * h + j, next);
            }
        }
    }
}

WORKER(gru_back_rows, rows) {
    gru *g = given;
    const int64_t h = g->channels;
    const stored *weights = g->weights + direction * whole(h, PANEL) * 3 * h;
    float *d_h = piece(&own, rows * h), *keep = piece(&own, rows * h);
    stored *of_state = piece(&own, rows * 3 * h);
    for (int64_t step = g->frames - 1; step >= 0; step--) {
        for (int64_t i = 0; i < rows; i++) {
            const int64_t item = first + i, t = frame_of(g, direction, item, step);
            const int64_t at = (item * g->frames + t) * g->directions + direction;
            const int64_t own_at = (direction * g->items + item) * g->frames + t;
            if (t >= g->lengths[item]) {
                /* No gradient has come yet. */
                CLEAR(g->of_state + own_at * 3 * h, 3 * h);
                CLEAR(g->of_gates + at * 3 * h, 3 * h);
                CLEAR(of_state + i * 3 * h, 3 * h);
                continue;
            }
            const stored *before = g->out + (at + (direction ? 1 : -1) * g->directions) * h;
            for (int64_t j = 0; j < h; j += LANES) {
                const vector d = load(g->d_out + at * h + j) + VECTOR(d_h + i * h + j);
                const vector last = step ? load(before + j) : all(0.0f);
                VECTOR(keep + i * h + j) =
                    cell_back(h, d, g->gates + at * 3 * h + j, g->added + at * h + j, last,
                              of_state + i * 3 * h + j,
                              g->of_gates + at * 3 * h + j,
                              g->d_bias + (item * g->directions + direction) * 4 * h + j);
            }
            COPY(g->of_state + own_at * 3 * h, of_state + i * 3 * h, 3 * h);
        }
        product(rows, of_state, 3 * h, weights, 3 * h, h, d_h);
        add(rows * h, d_h, keep);
    }
}

int64_t EXPORT(gru_size)(void) { return sizeof(gru); }
KERNEL(gru_forward, gru, gru_rows, g->directions, g->items, ROWS / 2, 5 * g->channels, 0)

KERNEL(gru_backward, gru, gru_back_rows, g->directions, g->items, ROWS / 2, 5 * g->channels, 0)

/* ---- attention loop: a GRU cell and an additive attention ---- */

/* L steps, S symbols, A attention channels, M memory channels; F location filters, K symbols wide,
 * of the last weights and of their sum, or none: then K = F = 0. The energy of a symbol is a sum of
 * sigmoids of keys, query and location.
 */
typedef struct {
    int64_t items, steps, symbols, memory_channels, channels, attention, width, filters;
    int64_t forward;         /* a symbol is reached from itself and from the one before */
    int64_t window;          /* then: symbols kept behind the largest weight, -1: all */
    const int64_t *lengths;  /* (B) of real symbols */
    const stored *inputs;    /* (B, L, 3 H): z, r, n with their biases */
    const stored *memory;    /* (B, S, M) */
    const stored *keys;      /* (B, S, A) */
    const stored *of_context, *of_state, *query; /* packed (M, 3 H): z, r, n; (H, 3 H): n, z, r;
                                                    (H, A); backward all transposed */
    const stored *of_past, *mix;                 /* packed (2 K, F), (F, A) */
    const float *state_bias, *query_bias, *energy; /* (H) of the state's n, (A), (A) */
    const stored *first_hidden, *first_context;  /* (B, H), (B, M): before the steps, or NULL */
    const float *first_weights;                  /* (B, S), or NULL */
    float *total;            /* (B, S): the sum of weights, brought up to date, or NULL */
    stored *hidden, *context; /* (B, L, H), (B, L, M) */
    float *weights, *queries; /* (B, L, S), (B, L, A) */
    stored *added;           /* (B, L, H) */
    gate *gates;             /* (B, L, 3 H) */
    stored *past;            /* (B, L, 2, S + K - 1): what the filters see */
    const stored *past_back, *mix_back; /* packed (F, 2 K), and (A, F) with the factor energy */
    const stored *d_hidden, *d_context; /* (B, L, H), (B, L, M) */
    const float *d_weights;  /* (B, L, S) */
    stored *d_contexts;      /* (B, L, M): of the contexts, in all */
    stored *d_queries;       /* (B, L, A) */
    stored *of_state_rows, *of_gates; /* (B, L, 3 H): n, z, r of the state; z, r, n of the input */
    float *d_keys;           /* (B, S, A), zeros; lacks the factor energy */
    float *d_energy;         /* (B, A), zeros */
    float *d_bias;           /* (B, 4 H), zeros */
    float *d_past;           /* (B, 2 K, F), zeros: of the filters */
    float *d_mix;            /* (B, F, A), zeros; lacks the factor energy */
} loop;

/* A reach of less than this is none, and its logarithm that of this. */
#define LEAST 1e-12f

/* How near each symbol is to the last weights: where they lie, or one before. */
INLINE float reach_of(const float *last, int64_t s) { return last[s] + (s ? last[s - 1] : 0.0f); }

/* Location features of an item: what the filters see (S, 2 K) and make (S, F), and what that adds
 * to each key (S, A).
 */
typedef struct {
    stored *seen, *features;
    float *filtered, *mixed;
} location;

static int64_t location_room(const loop *g) {
    return g->symbols * (2 * g->width + 2 * g->filters + g->attention);
}

static location location_of(const loop *g, float **own) {
    return (location){piece(own, g->symbols * 2 * g->width), piece(own, g->symbols * g->filters),
                      piece(own, g->symbols * g->filters), piece(own, g->symbols * g->attention)};
}

static void locate(const loop *g, const stored *past, int64_t length, location *to) {
    const int64_t k = g->width, f = g->filters, padded = g->symbols + k - 1;
    for (int64_t s = 0; s < length; s++) {
        COPY(to->seen + s * 2 * k, past + s, k);
        COPY(to->seen + s * 2 * k + k, past + padded + s, k);
    }
    product(length, to->seen, 2 * k, g->of_past, 2 * k, f, to->filtered);
    store_row(to->features, to->filtered, length * f);
    product(length, to->features, f, g->mix, f, g->attention, to->mixed);
}

/* Logits of an item's symbols. mixed (S, A): what their location adds, or zeros. */
static void energies(const loop *g, int64_t length, const stored *keys, const float *query,
                     const float *mixed, float *logits) {
    const int64_t a = g->attention;
    for (int64_t s = 0; s < length; s++) {
        vector sum = all(0.0f);
        for (int64_t j = 0; j < a; j += LANES) {
            const vector x =
                load(keys + s * a + j) + VECTOR(query + j) + VECTOR(mixed + s * a + j);
            sum += sigmoid(x) * VECTOR(g->energy + j);
        }
        logits[s] = sum_of(sum);
    }
}

/* Add to logits what the last weights allow. */
static void allow(const loop *g, const float *last, int64_t length, float *logits) {
    int64_t largest = 0;
    for (int64_t s = 1; s < length; s++)
        if (last[s] > last[largest]) largest = s;
    const int64_t kept = g->window < 0 ? 0 : largest - g->window;
    for (int64_t s = 0; s < length; s++) {
        const float reach = s < kept ? 0.0f : reach_of(last, s);
        logits[s] += reach <= 0.0f ? -INFINITY : logf(reach < LEAST ? LEAST : reach);
    }
}

/* The context (M) of weights (S) over memory (S, M). */
static void read_memory(const loop *g, const stored *memory, const float *weights, int64_t length,
                        stored *context) {
    for (int64_t j = 0; j < g->memory_channels; j += LANES) {
        vector sum = all(0.0f);
        for (int64_t s = 0; s < length; s++)
            sum += weights[s] * load(memory + s * g->memory_channels + j);
        store(context + j, sum);
    }
}

WORKER(loop_rows, rows) {
    loop *g = given;
    const int64_t h = g->channels, m = g->memory_channels, a = g->attention;
    const int64_t symbols = g->symbols, padded = symbols + g->width - 1, half = g->width / 2;
    location places = location_of(g, &own);
    float *last = piece(&own, rows * symbols), *total = piece(&own, rows * symbols);
    float *of_context = piece(&own, rows * 3 * h), *of_state = piece(&own, rows * 3 * h);
    float *state = piece(&own, rows * h), *query = piece(&own, rows * a);
    stored *hidden = piece(&own, rows * h), *context = piece(&own, rows * m);
    float *logits = piece(&own, whole(symbols, LANES));
    if (g->first_weights) {
        COPY(last, g->first_weights + first * symbols, rows * symbols);
        COPY(total, g->total + first * symbols, rows * symbols);
        COPY(hidden, g->first_hidden + first * h, rows * h);
        COPY(context, g->first_context + first * m, rows * m);
        for (int64_t j = 0; j < rows * h; j += LANES) VECTOR(state + j) = load(hidden + j);
    } else if (g->width) {
        for (int64_t i = 0; i < rows; i++) last[i * symbols] = 1.0f;
    }
    for (int64_t step = 0; step < g->steps; step++) {
        product(rows, context, m, g->of_context, m, 3 * h, of_context);
        product(rows, hidden, h, g->of_state, h, 3 * h, of_state);
        for (int64_t i = 0; i < rows; i++) {
            const int64_t at = (first + i) * g->steps + step;
            for (int64_t j = 0; j < h; j += LANES) {
                const vector next =
                    cell(h, g->inputs + at * 3 * h + j, of_context + i * 3 * h + j,
                         of_state + i * 3 * h + j, g->state_bias + j, state + i * h + j,
                         g->added + at * h + j, g->gates + at * 3 * h + j);
                VECTOR(state + i * h + j) = next;
                store(hidden + i * h + j, next);
            }
            COPY(g->hidden + at * h, hidden + i * h, h);
        }
        product(rows, hidden, h, g->query, h, a, query);
        for (int64_t i = 0; i < rows; i++) {
            const int64_t item = first + i, at = item * g->steps + step;
            const int64_t length = g->lengths[item];
            float *own_query = g->queries + at * a, *weights = g->weights + at * symbols;
            float *own_last = last + i * symbols, *sums = total + i * symbols;
            const stored *keys = g->keys + item * symbols * a;
            for (int64_t j = 0; j < a; j += LANES)
                VECTOR(own_query + j) = VECTOR(query + i * a + j) + VECTOR(g->query_bias + j);
            if (g->width) {
                stored *past = g->past + at * 2 * padded;
                CLEAR(past, 2 * padded);
                store_row(past + half, own_last, symbols);
                store_row(past + padded + half, sums, symbols);
                locate(g, past, length, &places);
            }
            energies(g, length, keys, own_query, places.mixed, logits);
            if (g->forward) allow(g, own_last, length, logits);
            softmax(length, logits, weights);
            CLEAR(weights + length, symbols - length);
            COPY(own_last, weights, symbols);
            add(symbols, sums, weights);
            read_memory(g, g->memory + item * symbols * m, weights, length, context + i * m);
            COPY(g->context + at * m, context + i * m, m);
        }
    }
    if (g->total) COPY(g->total + first * symbols, total, rows * symbols);
}

/* What products over symbols read back, packed where they are weights. */
typedef struct {
    stored *rows, *packed;     /* gradients of the sigmoids' sums (S, A) */
    float *d_features;         /* (S, F) */
    stored *d_rows, *d_packed; /* the same */
    stored *past, *across;     /* (2, S + K - 1) and a zero behind both; features (F, S) */
    float *d_seen;             /* (S, 2 K), each row whole panels */
} location_back;

static int64_t back_room(const loop *g) {
    const int64_t s = whole(g->symbols, 2), f = whole(g->filters, PANEL);
    if (!g->width) return 0;
    return s * (2 * whole(g->attention, PANEL) + 3 * f + g->filters + whole(2 * g->width, PANEL)) +
           2 * (g->symbols + g->width);
}

static location_back back_of(const loop *g, float **own) {
    const int64_t s = whole(g->symbols, 2), f = whole(g->filters, PANEL);
    const int64_t a = whole(g->attention, PANEL);
    if (!g->width) return (location_back){0};
    return (location_back){piece(own, s * a), piece(own, s * a), piece(own, s * f),
                           piece(own, s * f), piece(own, s * f),
                           piece(own, 2 * (g->symbols + g->width)), piece(own, s * g->filters),
                           piece(own, s * whole(2 * g->width, PANEL))};
}

/* Where rows s, s + 1 and columns from j lie in packed weights (count, N). */
INLINE stored *packed_at(stored *packed, int64_t count, int64_t s, int64_t j) {
    return packed + j / PANEL * count * PANEL + s * PANEL + j % PANEL * GROUP;
}

/* A vector of attention channels, from j on, of an item's step: their sums over symbols; and of
 * each symbol, if it is located, the gradient of the sigmoid's sum.
 */
INLINE void energies_back(int64_t length, const stored *keys, int64_t a, int64_t j,
                          const float *query, const float *mixed, const float *d_logits,
                          float *d_keys, vector *d_query, vector *d_energy,
                          const location_back *to) {
    const vector own = VECTOR(query + j);
    vector queries = all(0.0f), energies = queries, before = queries;
    for (int64_t s = 0; s < length; s++) {
        const vector x = load(keys + s * a + j) + own + VECTOR(mixed + s * a + j);
        const vector e = sigmoid(x), of = d_logits[s] * e, inner = of - of * e;
        energies += of;
        queries += inner;
        VECTOR(d_keys + s * a + j) += inner;
        if (to->rows) {
            store(to->rows + s * a + j, inner);
            if (s % 2)
                store_pair(packed_at(to->packed, whole(length, 2), s - 1, j), PANEL, before, inner);
            else if (s + 1 == length)
                store_pair(packed_at(to->packed, whole(length, 2), s, j), PANEL, inner, all(0.0f));
            before = inner;
        }
    }
    *d_query = queries;
    *d_energy = energies;
}

/* Back through the filters: into their gradients, and of what they saw (S, 2 K whole panels). */
static void locate_back(const loop *g, int64_t item, const stored *past, int64_t length,
                        const location *from, const location_back *by) {
    const int64_t k = 2 * g->width, f = g->filters, a = g->attention, even = whole(length, 2);
    const int64_t padded = g->symbols + g->width - 1;
    COPY(by->past, past, padded);
    COPY(by->past + padded + 1, past + padded, padded);
    for (int64_t i = 0; i < f; i++)
        for (int64_t s = 0; s < even; s++)
            by->across[i * even + s] = s < length ? from->features[s * f + i] : 0;
    add_product(f, by->across, even, by->packed, even, a, g->d_mix + item * f * a);
    product(length, by->rows, a, g->mix_back, a, f, by->d_features);
    CLEAR(by->d_features + length * f, (even - length) * f);
    store_row(by->d_rows, by->d_features, length * f);
    for (int64_t s = 0; s < length; s += 2)
        for (int64_t j = 0; j < f; j += LANES)
            store_pair(packed_at(by->d_packed, even, s, j), PANEL,
                       VECTOR(by->d_features + s * f + j),
                       VECTOR(by->d_features + (s + 1) * f + j));
    /* What a filter's weight has seen of all symbols lies in the past as it is. */
    float *d_past = g->d_past + item * k * f;
    add_product(g->width, by->past, 1, by->d_packed, even, f, d_past);
    add_product(g->width, by->past + padded + 1, 1, by->d_packed, even, f, d_past + g->width * f);
    product(length, by->d_rows, f, g->past_back, f, whole(k, PANEL), by->d_seen);
}

/* Gradients of an item's logits at a step: d_context (M), weights (S), and d_logits (S), those of
 * the weights from elsewhere -> d_logits (S).
 */
static void softmax_back(const loop *g, const stored *memory, const float *d_context,
                         const float *weights, int64_t length, float *d_logits) {
    float mean = 0.0f;
    for (int64_t s = 0; s < length; s++) {
        vector sum = all(0.0f);
        for (int64_t j = 0; j < g->memory_channels; j += LANES)
            sum += load(memory + s * g->memory_channels + j) * VECTOR(d_context + j);
        d_logits[s] += sum_of(sum);
        mean += d_logits[s] * weights[s];
    }
    for (int64_t s = 0; s < length; s++) d_logits[s] = weights[s] * (d_logits[s] - mean);
}

WORKER(loop_back_rows, rows) {
    loop *g = given;
    const int64_t h = g->channels, m = g->memory_channels, a = g->attention;
    const int64_t symbols = g->symbols, padded = symbols + g->width - 1, half = g->width / 2;
    location places = location_of(g, &own);
    const location_back back = back_of(g, &own);
    float *d_last = piece(&own, rows * symbols), *d_total = piece(&own, rows * symbols);
    float *d_past = piece(&own, 2 * (padded + 1));
    float *d_h = piece(&own, rows * h), *keep = piece(&own, rows * h);
    float *of_query = piece(&own, rows * h), *d_c = piece(&own, rows * m);
    float *d_logits = piece(&own, symbols), *d_context = piece(&own, m);
    stored *d_queries = piece(&own, rows * a);
    stored *of_state = piece(&own, rows * 3 * h), *of_gates = piece(&own, rows * 3 * h);
    for (int64_t step = g->steps - 1; step >= 0; step--) {
        for (int64_t i = 0; i < rows; i++) {
            const int64_t item = first + i, at = item * g->steps + step;
            const int64_t length = g->lengths[item];
            const float *weights = g->weights + at * symbols;
            const stored *keys = g->keys + item * symbols * a;
            const stored *past = g->past + at * 2 * padded;
            float *own_last = d_last + i * symbols, *sums = d_total + i * symbols;
            float *d_keys = g->d_keys + item * symbols * a, *d_energies = g->d_energy + item * a;
            for (int64_t j = 0; j < m; j += LANES) {
                const vector d = load(g->d_context + at * m + j) + VECTOR(d_c + i * m + j);
                VECTOR(d_context + j) = d;
                store(g->d_contexts + at * m + j, d);
            }
            for (int64_t s = 0; s < length; s++)
                d_logits[s] = g->d_weights[at * symbols + s] + own_last[s] + sums[s];
            softmax_back(g, g->memory + item * symbols * m, d_context, weights, length, d_logits);
            CLEAR(own_last, symbols);
            for (int64_t s = 0; g->forward && step && s < length; s++) {
                const float reach = reach_of(weights - symbols, s);
                const float one = reach >= LEAST ? d_logits[s] / reach : 0.0f;
                own_last[s] += one;
                if (s) own_last[s - 1] += one;
            }
            if (g->width) locate(g, past, length, &places);
            for (int64_t j = 0; j < a; j += LANES) {
                vector d_query, d_energy;
                const float *query = g->queries + at * a;
                energies_back(length, keys, a, j, query, places.mixed, d_logits, d_keys, &d_query,
                              &d_energy, &back);
                VECTOR(d_energies + j) += d_energy;
                store(d_queries + i * a + j, d_query * VECTOR(g->energy + j));
            }
            if (g->width) {
                locate_back(g, item, past, length, &places, &back);
                CLEAR(d_past, 2 * padded);
                for (int64_t s = 0; s < length; s++) {
                    const float *d_seen = back.d_seen + s * whole(2 * g->width, PANEL);
                    add(g->width, d_past + s, d_seen);
                    add(g->width, d_past + padded + s, d_seen + g->width);
                }
                add(symbols, own_last, d_past + half);
                add(symbols, sums, d_past + padded + half);
            }
            COPY(g->d_queries + at * a, d_queries + i * a, a);
        }
        product(rows, d_queries, a, g->query, a, h, of_query);
        for (int64_t i = 0; i < rows; i++) {
            const int64_t at = (first + i) * g->steps + step;
            for (int64_t j = 0; j < h; j += LANES) {
                const vector d = load(g->d_hidden + at * h + j) + VECTOR(d_h + i * h + j) +
                                 VECTOR(of_query + i * h + j);
                const vector last = step ? load(g->hidden + (at - 1) * h + j) : all(0.0f);
                VECTOR(keep + i * h + j) =
                    cell_back(h, d, g->gates + at * 3 * h + j, g->added + at * h + j, last,
                              of_state + i * 3 * h + j, of_gates + i * 3 * h + j,
                              g->d_bias + (first + i) * 4 * h + j);
            }
            COPY(g->of_state_rows + at * 3 * h, of_state + i * 3 * h, 3 * h);
            COPY(g->of_gates + at * 3 * h, of_gates + i * 3 * h, 3 * h);
        }
        product(rows, of_state, 3 * h, g->of_state, 3 * h, h, d_h);
        add(rows * h, d_h, keep);
        product(rows, of_gates, 3 * h, g->of_context, 3 * h, m, d_c);
    }
}

int64_t EXPORT(loop_size)(void) { return sizeof(loop); }
KERNEL(loop_forward, loop, loop_rows, 1, g->items, 1,
       8 * g->channels + g->memory_channels + g->attention + 2 * g->symbols,
       whole(g->symbols, LANES) + location_room(g))

KERNEL(loop_backward, loop, loop_back_rows, 1, g->items, 1,
       9 * g->channels + g->memory_channels + g->attention + 2 * g->symbols,
       g->symbols + g->memory_channels + location_room(g) + back_room(g) +
           2 * (g->symbols + g->width))

/* ---- batch norm over real frames, with a ReLU and a max pool behind it ---- */

/* x (B, T, C) lies in parts, each (B, T, width), C = parts x width. */
typedef struct {
    int64_t items, frames, parts, width, block, relu, pool;
    const stored *const *x;
    const uint8_t *real;        /* (B, T) */
    const float *slope, *shift; /* (C): y = x slope + shift */
    const float *centre;
    float *sums;                /* (blocks, 2 C + 1): mean and squares about it, and frames */
    stored *out;                /* (B, T, C) */
    const stored *d_out;
    float *d_sums;              /* (B, 2 C): of the gradient, and of it times x - centre */
    const float *offset, *linear; /* (C) */
    stored *const *d_x;
} norm;

WORKER(norm_sums_rows, blocks) {
    const norm *g = given;
    const int64_t rows = g->items * g->frames, channels = g->parts * g->width;
    for (int64_t i = first; i < first + blocks; i++) {
        const int64_t start = i * g->block;
        const int64_t stop = start + g->block < rows ? start + g->block : rows;
        float *mean = g->sums + i * (2 * channels + 1), *square = mean + channels;
        int64_t count = 0;
        for (int64_t row = start; row < stop; row++) count += g->real[row] != 0;
        mean[2 * channels] = count;
        const float share_of = count ? 1.0f / count : 0.0f;
        for (int64_t part = 0; part < g->parts; part++) {
            for (int64_t c = 0; c < g->width; c += LANES, mean += LANES, square += LANES) {
                vector sum = all(0.0f), squares = sum;
                for (int64_t row = start; row < stop; row++)
                    if (g->real[row]) sum += load(g->x[part] + row * g->width + c);
                sum *= share_of;
                for (int64_t row = start; row < stop; row++)
                    if (g->real[row]) {
                        const vector x = load(g->x[part] + row * g->width + c) - sum;
                        squares += x * x;
                    }
                VECTOR(mean) = sum;
                VECTOR(square) = squares;
            }
        }
    }
}

/* The norm of a vector of channels of a row, rectified if asked; NaN stays NaN. */
INLINE vector normal(const norm *g, int64_t row, int64_t part, int64_t c) {
    if (!g->real[row]) return all(0.0f);
    const int64_t at = part * g->width + c;
    const vector y =
        load(g->x[part] + row * g->width + c) * VECTOR(g->slope + at) + VECTOR(g->shift + at);
    return g->relu ? chosen(y < all(0.0f), all(0.0f), y) : y;
}

WORKER(norm_apply_rows, items) {
    const norm *g = given;
    const int64_t channels = g->parts * g->width;
    for (int64_t item = first; item < first + items; item++)
        for (int64_t t = 0; t < g->frames; t++) {
            const int64_t row = item * g->frames + t;
            stored *out = g->out + row * channels;
            for (int64_t part = 0; part < g->parts; part++)
                for (int64_t c = 0; c < g->width; c += LANES, out += LANES) {
                    vector y = normal(g, row, part, c);
                    if (g->pool && t + 1 < g->frames) {
                        const vector next = normal(g, row + 1, part, c);
                        y = chosen(next > y, next, y);
                    }
                    store(out, y);
                }
        }
}

/* Go through an item: add up sums, or write the gradient of x. carry (C): what the maximum of the
 * frame before gives to this one.
 */
INLINE void norm_back_item(const norm *g, int64_t item, float *carry, const int write) {
    const int64_t channels = g->parts * g->width;
    const vector zero = all(0.0f);
    float *sums = g->d_sums + item * 2 * channels;
    CLEAR(carry, channels);
    if (!write) CLEAR(sums, 2 * channels);
    for (int64_t t = 0; t < g->frames; t++) {
        const int64_t row = item * g->frames + t;
        for (int64_t at = 0; at < channels; at += LANES) {
            const int64_t part = at / g->width, c = at % g->width;
            vector d = g->real[row] ? load(g->d_out + row * channels + at) : zero;
            if (g->relu) {
                const vector y = normal(g, row, part, c);
                if (g->pool && t + 1 < g->frames) {
                    const numbers own = y >= normal(g, row + 1, part, c);
                    const vector before = VECTOR(carry + at);
                    VECTOR(carry + at) = chosen(own, zero, d);
                    d = chosen(own, d, zero) + before;
                } else if (g->pool) {
                    d += VECTOR(carry + at);
                }
                d = chosen(y <= zero, zero, d);
            }
            if (!g->real[row]) {
                if (write) store(g->d_x[part] + row * g->width + c, zero);
                continue;
            }
            const vector x = load(g->x[part] + row * g->width + c);
            if (write) {
                d = x * VECTOR(g->linear + at) + (d - VECTOR(g->offset + at));
                store(g->d_x[part] + row * g->width + c, d * VECTOR(g->slope + at));
            } else {
                VECTOR(sums + at) += d;
                VECTOR(sums + channels + at) += d * (x - VECTOR(g->centre + at));
            }
        }
    }
}

WORKER(norm_back_rows, items) {
    norm *g = given;
    for (int64_t item = first; item < first + items; item++) {
        if (g->d_x)
            norm_back_item(g, item, own, 1);
        else
            norm_back_item(g, item, own, 0);
    }
}

int64_t EXPORT(norm_size)(void) { return sizeof(norm); }
/* Means and squares of blocks of rows. */
KERNEL(norm_sums, norm, norm_sums_rows, 1, whole(g->items * g->frames, g->block) / g->block, 1, 0, 0)

KERNEL(norm_apply, norm, norm_apply_rows, 1, g->items, 1, 0, 0)

/* Sums of the gradient, or the gradient of x where there is a place for it. */
KERNEL(norm_back, norm, norm_back_rows, 1, g->items, 1, 0, g->parts * g->width)
