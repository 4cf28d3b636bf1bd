/* What all loops share: the width of a vector, memory and threads. */

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
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

/* Memory to free, NULL if there is none. Much of it comes by large pages, where the system has them:
 * to be given 12 MB by small ones takes longer than to work through them.
 */
static inline void *room(int64_t bytes) {
    const int64_t large = 1 << 21, align = bytes < large ? 64 : large;
    void *found = NULL;
    bytes = (bytes + align - 1) / align * align;
    if (posix_memalign(&found, (size_t)align, (size_t)bytes)) return NULL;
#if defined(MADV_HUGEPAGE)
    if (align == large) madvise(found, (size_t)bytes, MADV_HUGEPAGE);
#endif
    return found;
}

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

/* Work off directions and rows: each thread a direction and some of its rows, `least` if there are
 * so many, for which a thread is worth beginning.
 */
static void share(void (*work)(void *, int64_t, int64_t, int64_t), void *given, int64_t directions,
                  int64_t rows, int64_t least, int64_t threads) {
    int64_t blocks = (threads + directions - 1) / directions;
    const int64_t most = (rows + least - 1) / least;
    if (blocks > most) blocks = most;
    const int64_t count = directions * blocks;
    task tasks[count];
    for (int64_t i = 0; i < count; i++) {
        const int64_t part = i % blocks, first = part * rows / blocks;
        tasks[i] = (task){work, given, i / blocks, first, (part + 1) * rows / blocks - first};
    }
#ifdef _OPENMP
    /* By torch's own threads, which otherwise spin beside ours for a while after each operation. */
#pragma omp parallel for schedule(static, 1) num_threads(threads)
    for (int64_t i = 0; i < count; i++) run(&tasks[i]);
#else
    pthread_t started[count];
    char runs[count];
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
#endif
}

