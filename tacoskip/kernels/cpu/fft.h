/* Transforms of real frames, WIDE of them side by side: lane i of each vector is frame i's.
 *
 * So no step moves numbers between lanes but the transposition on the way in and out, and a frame
 * is the same whoever its neighbours are. n samples are M = n / 2 complex numbers, of even and odd
 * samples (re, im, two vectors). Forward goes by decimation in frequency, radix 4, and leaves the
 * bins in the order of `spectra.py`; backward takes them so and comes back by decimation in time. Bins are
 * neither scaled by 1/2 on the way in nor by 1 / (2 M) on the way out: the windows are.
 *
 * To include once with REAL, WHOLE (an integer as wide), WIDE and NAME(x).
 */

typedef REAL NAME(lanes) __attribute__((vector_size(sizeof(REAL) * WIDE), aligned(sizeof(REAL)),
                                        may_alias));
typedef WHOLE NAME(whole) __attribute__((vector_size(sizeof(REAL) * WIDE)));

#if defined(__clang__)
#define MIXED(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define MIXED(a, b, ...) __builtin_shuffle(a, b, (NAME(whole)){__VA_ARGS__})
#endif
#if WIDE == 16
#define LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif WIDE == 8
#define LOW 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH 4, 12, 5, 13, 6, 14, 7, 15
#elif WIDE == 4
#define LOW 0, 4, 1, 5
#define HIGH 2, 6, 3, 7
#else
#define LOW 0, 2
#define HIGH 1, 3
#endif

/* Rows to columns, in place: rows zipped with those half of them further, as often as it takes. */
INLINE void NAME(transpose)(NAME(lanes) *rows) {
    NAME(lanes) other[WIDE];
#pragma GCC unroll 4
    for (int size = 1; size < WIDE; size *= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < WIDE / 2; i++) {
            other[2 * i] = MIXED(rows[i], rows[i + WIDE / 2], LOW);
            other[2 * i + 1] = MIXED(rows[i], rows[i + WIDE / 2], HIGH);
        }
#pragma GCC unroll 16
        for (int i = 0; i < WIDE; i++) rows[i] = other[i];
    }
}

/* Frames `hop` samples apart, of `length` samples (a multiple of WIDE), times the window; zeros to n.
 */
static void NAME(take)(const REAL *samples, int64_t hop, int64_t length, const REAL *window,
                       int64_t n_fft, NAME(lanes) *x) {
    memset(x + length, 0, sizeof(*x) * (n_fft - length));
    for (int64_t n = 0; n < length; n += WIDE) {
        NAME(lanes) rows[WIDE];
#pragma GCC unroll 16
        for (int i = 0; i < WIDE; i++)
            rows[i] = *(const NAME(lanes) *)(samples + i * hop + n);
        NAME(transpose)(rows);
#pragma GCC unroll 16
        for (int i = 0; i < WIDE; i++) x[n + i] = rows[i] * window[n + i];
    }
}

/* (re, im) times (c, s) */
INLINE void NAME(turn)(NAME(lanes) *re, NAME(lanes) *im, REAL c, REAL s) {
    const NAME(lanes) before = *re;
    *re = before * c - *im * s;
    *im = before * s + *im * c;
}

/* Columns of four, `quarter` apart, into four transforms. */
INLINE void NAME(apart)(NAME(lanes) *x, int64_t quarter, const REAL *turns, const int turned) {
    for (int64_t j = 0; j < quarter; j++) {
        NAME(lanes) *a = x + 2 * j, *b = a + 2 * quarter, *c = b + 2 * quarter,
                    *d = c + 2 * quarter;
        const REAL *t = turns + 6 * j;
        const NAME(lanes) even_r = a[0] + c[0], even_i = a[1] + c[1];
        const NAME(lanes) odd_r = a[0] - c[0], odd_i = a[1] - c[1];
        const NAME(lanes) sum_r = b[0] + d[0], sum_i = b[1] + d[1];
        const NAME(lanes) far_r = b[0] - d[0], far_i = b[1] - d[1];
        a[0] = even_r + sum_r, a[1] = even_i + sum_i;
        b[0] = odd_r + far_i, b[1] = odd_i - far_r;
        c[0] = even_r - sum_r, c[1] = even_i - sum_i;
        d[0] = odd_r - far_i, d[1] = odd_i + far_r;
        if (turned) {
            NAME(turn)(b, b + 1, t[0], t[1]);
            NAME(turn)(c, c + 1, t[2], t[3]);
            NAME(turn)(d, d + 1, t[4], t[5]);
        }
    }
}

/* And back: four transforms into columns of four. */
INLINE void NAME(together)(NAME(lanes) *x, int64_t quarter, const REAL *turns, const int turned) {
    for (int64_t j = 0; j < quarter; j++) {
        NAME(lanes) *a = x + 2 * j, *b = a + 2 * quarter, *c = b + 2 * quarter,
                    *d = c + 2 * quarter;
        const REAL *t = turns + 6 * j;
        NAME(lanes) br = b[0], bi = b[1], cr = c[0], ci = c[1], dr = d[0], di = d[1];
        if (turned) {
            NAME(turn)(&br, &bi, t[0], -t[1]);
            NAME(turn)(&cr, &ci, t[2], -t[3]);
            NAME(turn)(&dr, &di, t[4], -t[5]);
        }
        const NAME(lanes) even_r = a[0] + cr, even_i = a[1] + ci;
        const NAME(lanes) odd_r = a[0] - cr, odd_i = a[1] - ci;
        const NAME(lanes) sum_r = br + dr, sum_i = bi + di;
        const NAME(lanes) far_r = br - dr, far_i = bi - di;
        a[0] = even_r + sum_r, a[1] = even_i + sum_i;
        b[0] = odd_r - far_i, b[1] = odd_i + far_r;
        c[0] = even_r - sum_r, c[1] = even_i - sum_i;
        d[0] = odd_r + far_i, d[1] = odd_i - far_r;
    }
}

INLINE void NAME(two)(NAME(lanes) *x) {
    for (int i = 0; i < 2; i++) {
        const NAME(lanes) before = x[i];
        x[i] = before + x[2 + i];
        x[2 + i] = before - x[2 + i];
    }
}

/* Depth first: what a pass leaves is still in the cache when the next one comes. */
static void NAME(forward)(NAME(lanes) *x, int64_t length, const REAL *turns) {
    const int64_t quarter = length / 4;
    if (length == 2) NAME(two)(x);
    if (length == 4) NAME(apart)(x, 1, turns, 0);
    if (length <= 4) return;
    NAME(apart)(x, quarter, turns, 1);
    for (int i = 0; i < 4; i++) NAME(forward)(x + 2 * i * quarter, quarter, turns + 6 * quarter);
}

static void NAME(backward)(NAME(lanes) *x, int64_t length, const REAL *turns) {
    const int64_t quarter = length / 4;
    if (length == 2) NAME(two)(x);
    if (length == 4) NAME(together)(x, 1, turns, 0);
    if (length <= 4) return;
    for (int i = 0; i < 4; i++) NAME(backward)(x + 2 * i * quarter, quarter, turns + 6 * quarter);
    NAME(together)(x, quarter, turns, 1);
}

/* Bins k (re, im of `here`) and M - k (`there`), 0 < k < M, of the numbers where `spectra.py` has them;
 * (c, s) is e^(-2 pi i k / n).
 */
INLINE void NAME(bins)(const NAME(lanes) *a, const NAME(lanes) *b, REAL c, REAL s,
                       NAME(lanes) *here, NAME(lanes) *there) {
    const NAME(lanes) even_r = a[0] + b[0], even_i = a[1] - b[1];
    NAME(lanes) odd_r = a[1] + b[1], odd_i = b[0] - a[0];
    NAME(turn)(&odd_r, &odd_i, c, s);
    here[0] = even_r + odd_r, here[1] = even_i + odd_i;
    there[0] = even_r - odd_r, there[1] = odd_i - even_i;
}

/* And back. */
INLINE void NAME(numbers)(const NAME(lanes) *here, const NAME(lanes) *there, REAL c, REAL s,
                          NAME(lanes) *a, NAME(lanes) *b) {
    const NAME(lanes) even_r = here[0] + there[0], even_i = here[1] - there[1];
    NAME(lanes) odd_r = here[0] - there[0], odd_i = here[1] + there[1];
    NAME(turn)(&odd_r, &odd_i, c, -s);
    a[0] = even_r - odd_i, a[1] = even_i + odd_r;
    b[0] = even_r + odd_i, b[1] = odd_r - even_i;
}

#undef MIXED
#undef LOW
#undef HIGH
