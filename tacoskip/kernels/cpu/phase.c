/* Phase gradient heap integration (audio/phase.py), T frames, F bins.
 *
 * What is known of a bin lies in one place, and a step from bin to bin looks at three rows of
 * memory and nowhere else. Arrays of (T + 2, F + 2) have a quiet bin beyond each edge.
 */

#include "common.h"

/* Log magnitude, phase; and whether it waits, or, once it has its phase, who is below it in the
 * stack of its level: -1 nobody, -2 - i node i.
 */
typedef struct {
    float height, angle;
    int32_t state;
} node;

enum { WAITS = 1, QUIET = 0 };

typedef struct {
    node *nodes;
    int32_t *stacks;
    float threshold, steps;
    int32_t top, best;
} integration;

INLINE int32_t level_of(const integration *g, float height) {
    const int32_t level = (int32_t)((height - g->threshold) * g->steps);
    return level < g->top ? level : g->top;
}

/* Reach a bin, which may wait, from one that has its phase. */
INLINE void reach(integration *g, node *there, float angle) {
    const int32_t level = level_of(g, there->height);
    there->angle = angle;
    there->state = -2 - g->stacks[level];
    g->stacks[level] = (int32_t)(there - g->nodes);
    g->best = level > g->best ? level : g->best;
}

/* The slope of a bin's height: half of this. */
INLINE float slope(const node *at, int64_t apart) { return at[apart].height - at[-apart].height; }

/* Write the phases of log magnitudes `height` (T + 2, F + 2) into `phase` (T, F). slopes: threshold
 * (log), of time, of frequency, of the window's centre; advance (F); steps: levels a neper, of which
 * there are `levels` at most. 0 where there was no memory.
 */
int integrate(int64_t frames, int64_t bins, const float *height, float *phase,
              const float *slopes, const float *advance, float steps, int64_t levels) {
    const int64_t stride = bins + 2, size = (frames + 2) * stride;
    /* Slopes are central differences; a step takes the mean of those at its two bins. */
    const float along_time = 0.25f * slopes[1], along_frequency = 0.25f * slopes[2];
    node *nodes = room(sizeof(node) * size);
    int32_t *below = room(4 * size), *stacks = room(8 * levels), *tops = stacks + levels;
    const int there_is_room = nodes && below && stacks;
    integration g = {nodes, stacks, slopes[0], steps, (int32_t)levels - 1, -1};
    for (int64_t i = 0; there_is_room && i < 2 * levels; i++) stacks[i] = -1;
    for (int64_t t = -1, i = 0; there_is_room && t <= frames; t++)
        for (int64_t k = -1; k <= bins; k++, i++) {
            const int inside = t >= 0 && t < frames && k >= 0 && k < bins;
            const int loud = inside && height[i] > g.threshold;
            nodes[i] = (node){height[i], 0, loud ? WAITS : QUIET};
            /* The loudest bin of those that wait is no quieter than its neighbours. */
            if (!loud || height[i] < height[i - 1] || height[i] < height[i + 1]) continue;
            const int32_t level = level_of(&g, height[i]);
            below[i] = tops[level];
            tops[level] = (int32_t)i;
        }
    for (int64_t seed_level = there_is_room ? levels - 1 : -1; seed_level >= 0;) {
        while (g.best >= 0 && stacks[g.best] < 0) g.best--;
        if (g.best < 0) { /* nothing in reach: begin anew at the loudest bin left */
            const int32_t seed = tops[seed_level];
            if (seed < 0) seed_level--;
            if (seed < 0) continue;
            tops[seed_level] = below[seed];
            if (nodes[seed].state == WAITS) reach(&g, nodes + seed, 0);
            continue;
        }
        node *here = nodes + stacks[g.best];
        stacks[g.best] = -2 - here->state;
        const float across = slope(here, 1), along = slope(here, stride), angle = here->angle;
        const float turn = advance[(uint32_t)((here - nodes) - 1) % (uint32_t)stride];
        for (int side = 1; side >= -1; side -= 2) {
            node *there = here + side * stride;
            if (there->state == WAITS)
                reach(&g, there, angle + side * (turn + along_time * (across + slope(there, 1))));
        }
        for (int side = 1; side >= -1; side -= 2) {
            node *there = here + side;
            const float step = slopes[3] + along_frequency * (along + slope(there, stride));
            if (there->state == WAITS) reach(&g, there, angle + side * step);
        }
    }
    for (int64_t t = 0; there_is_room && t < frames; t++) {
        const node *row = nodes + (t + 1) * stride + 1;
        for (int64_t k = 0; k < bins; k++)
            if (row[k].state != QUIET) phase[t * bins + k] = row[k].angle;
    }
    free(nodes), free(below), free(stacks);
    return there_is_room;
}
