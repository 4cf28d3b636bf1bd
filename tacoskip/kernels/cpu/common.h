/* What all loops share: the width of a vector, memory and threads. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

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

typedef float vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

/* n, up to a multiple. */
INLINE int64_t whole(int64_t n, int64_t of) { return (n + of - 1) / of * of; }

/* Memory to free, NULL if there is none. Much of it comes by large pages, where the system has them:
 * to be given 12 MB by small ones takes longer than to work through them.
 */
static inline void *room(int64_t bytes) {
    const int64_t large = 1 << 21, align = bytes < large ? 64 : large;
    void *found = NULL;
    if (posix_memalign(&found, (size_t)align, (size_t)whole(bytes, align))) return NULL;
#if defined(MADV_HUGEPAGE)
    if (align == large) madvise(found, (size_t)whole(bytes, align), MADV_HUGEPAGE);
#endif
    return found;
}

#define UNUSED __attribute__((unused))
#define WORKER(name, rows)                                                             \
    static void name(void *given, UNUSED int64_t direction, int64_t first, int64_t rows, \
                     UNUSED float *own)

typedef void worker(void *given, int64_t direction, int64_t first, int64_t rows, float *own);

/* Work off directions and rows: each thread a direction and some of its rows, `least` if there are
 * so many, for which a thread is worth starting; with zeros of its own, `a_row` for each row and
 * `more`. 0 where there was no memory. Threads are torch's own; one where it has none.
 */
static int share(worker *work, void *given, int64_t directions, int64_t rows, int64_t least,
                 int64_t threads, int64_t a_row, int64_t more) {
    int64_t blocks = (threads + directions - 1) / directions;
    const int64_t most = (rows + least - 1) / least;
    int done = 1;
    if (blocks > most) blocks = most;
#pragma omp parallel for schedule(static, 1) num_threads(threads) reduction(&& : done)
    for (int64_t i = 0; i < directions * blocks; i++) {
        const int64_t part = i % blocks, first = part * rows / blocks;
        const int64_t count = (part + 1) * rows / blocks - first, bytes = 4 * (count * a_row + more);
        float *own = bytes ? room(bytes) : NULL;
        if (own) memset(own, 0, bytes);
        if (own || !bytes) work(given, i / blocks, first, count, own);
        done = done && (own || !bytes);
        free(own);
    }
    return done;
}
