/* Phase gradient heap integration (audio/phase.py), T frames, F bins.
 *
 * What is known of a bin lies in one place, and a step from bin to bin looks at three rows of
 * memory and nowhere else. Rows and bins beyond the edges, quiet, spare the loop the edges: their
 * heights are such that slopes come out as they are at an edge, one-sided along time, none along
 * frequency.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "elementwise.h"

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

/* Reach a bin that waits, from one that has its phase. */
INLINE void reach(integration *g, node *there, float angle) {
    const int32_t level = level_of(g, there->height);
    there->angle = angle;
    there->state = -2 - g->stacks[level];
    g->stacks[level] = (int32_t)(there - g->nodes);
    g->best = level > g->best ? level : g->best;
}

/* Natural logarithms, of 1e-10 at least. */
static void logarithms(const float *x, int64_t count, float *out) {
    const vector least = (vector){0} + 1e-10f;
    for (int64_t i = 0; i < count; i += LANES) {
        const int64_t bytes = 4 * (count - i < LANES ? count - i : LANES);
        vector some = least;
        memcpy(&some, x + i, bytes);
        some = logarithm(chosen(some > least, some, least)) * 2.30258509f;
        memcpy(out + i, &some, bytes);
    }
}

/* A row of nodes: of log magnitudes, between two of the frames beside. */
static void lay_out(const float *height, int64_t bins, float threshold, int waits, node *row) {
    for (int64_t k = 0; k < bins; k++)
        row[k] = (node){height[k], 0, (height[k] > threshold) & waits};
    row[-1] = (node){height[bins > 1], 0, QUIET};
    row[bins] = (node){height[bins > 1 ? bins - 2 : 0], 0, QUIET};
}

/* The bins of a row that wait and are no quieter than their neighbours; found (bins + 8,) is
 * scratch; returns how many.
 */
static int64_t peaks(const float *height, const float *before, const float *after, int64_t bins,
                     float threshold, char *found, int32_t first, int32_t *peak) {
    int64_t count = 0;
    for (int64_t k = 0; k < bins; k++)
        found[k] = (height[k] >= before[k]) & (height[k] >= after[k]) & (height[k] > threshold);
    for (int64_t k = 1; k < bins; k++) found[k] &= height[k] >= height[k - 1];
    for (int64_t k = 0; k < bins - 1; k++) found[k] &= height[k] >= height[k + 1];
    memset(found + bins, 0, 8);
    for (int64_t k = 0; k < bins; k += 8) {
        uint64_t some;
        memcpy(&some, found + k, 8);
        for (int64_t i = k; some && i < k + 8; i++)
            if (found[i]) peak[count++] = first + (int32_t)i;
    }
    return count;
}

/* Write the phases of magnitudes (T, F) into `phase` (T, F).
 * slopes: threshold (log), of time, of frequency, of the window's centre; steps: levels a neper, of
 * which there are `levels` at most; advance (F,). 0 where there was no memory.
 */
int integrate(int64_t frames, int64_t bins, const float *magnitude, float *phase,
              const float *slopes, const float *advance, float steps, int64_t levels) {
    const int64_t stride = bins + 2, size = (frames + 2) * stride;
    const float along_time = 0.25f * slopes[1], along_frequency = 0.25f * slopes[2];
    node *nodes = room(sizeof(node) * size);
    int32_t *seeds = room(8 * size), *below = seeds + size;
    int32_t *stacks = room(8 * levels), *tops = stacks + levels;
    float *logs = room(16 * bins + 8 + 4 * stride), *own = logs + 4 * bins + 2;
    const int there = nodes && seeds && stacks && logs;
    integration g = {nodes, stacks, slopes[0], steps, (int32_t)levels - 1, -1};
    int64_t count = 0;
    if (there) {
        for (int64_t i = 0; i < 2 * levels; i++) stacks[i] = -1;
        for (int64_t k = 0; k < bins; k++) own[k + 1] = advance[k];
        logarithms(magnitude, bins, logs);
    }
    for (int64_t t = 0; there && t < frames; t++) {
        const int64_t next = t + 1 < frames ? t + 1 : t, place = (t + 1) * stride + 1;
        float *height = logs + t % 3 * bins, *after = logs + next % 3 * bins;
        float *before = logs + (t ? t - 1 : 0) % 3 * bins;
        node *row = nodes + place;
        if (next > t) logarithms(magnitude + next * bins, bins, after);
        lay_out(height, bins, g.threshold, 1, row);
        if (t == 0) {
            lay_out(before, bins, g.threshold, 0, row - stride);
            for (int64_t k = 0; k < bins; k++)
                row[k - stride].height = 2 * height[k] - after[k];
        }
        if (t == frames - 1) {
            lay_out(height, bins, g.threshold, 0, row + stride);
            for (int64_t k = 0; t && k < bins; k++)
                row[k + stride].height = 2 * height[k] - before[k];
        }
        const int64_t more = peaks(height, before, after, bins, g.threshold,
                                   (char *)(logs + 3 * bins), (int32_t)place, seeds + count);
        for (int64_t end = count + more; count < end; count++) {
            const int32_t level = level_of(&g, nodes[seeds[count]].height);
            below[count] = tops[level];
            tops[level] = (int32_t)count;
        }
    }
    for (int64_t seed_level = there ? levels - 1 : -1;;) {
        while (g.best >= 0 && stacks[g.best] < 0) g.best--;
        node *here;
        if (g.best >= 0) {
            here = nodes + stacks[g.best];
            stacks[g.best] = -2 - here->state;
        } else { /* nothing in reach: begin anew at the loudest bin left */
            while (seed_level >= 0) {
                const int64_t top = tops[seed_level];
                if (top >= 0 && nodes[seeds[top]].state == WAITS) break;
                if (top >= 0)
                    tops[seed_level] = below[top];
                else
                    seed_level--;
            }
            if (seed_level < 0) break;
            here = nodes + seeds[tops[seed_level]];
            here->state = -1;
        }
        /* Slopes are central differences; a step takes the mean of those at its two bins. */
        node *later = here + stride, *sooner = here - stride;
        const float angle = here->angle;
        const float across = here[1].height - here[-1].height;
        const float along = later->height - sooner->height;
        if (later->state == WAITS || sooner->state == WAITS) {
            const float whole = own[(uint32_t)(here - nodes) % (uint32_t)stride];
            if (later->state == WAITS)
                reach(&g, later, angle + whole +
                                     along_time * (across + later[1].height - later[-1].height));
            if (sooner->state == WAITS)
                reach(&g, sooner, angle - whole -
                                      along_time * (across + sooner[1].height - sooner[-1].height));
        }
        if (here[1].state == WAITS)
            reach(&g, here + 1, angle + slopes[3] +
                                    along_frequency * (along + later[1].height - sooner[1].height));
        if (here[-1].state == WAITS)
            reach(&g, here - 1, angle - slopes[3] -
                                    along_frequency * (along + later[-1].height - sooner[-1].height));
    }
    for (int64_t t = 0; there && t < frames; t++) {
        const node *row = nodes + (t + 1) * stride + 1;
        for (int64_t k = 0; k < bins; k++)
            phase[t * bins + k] = row[k].state != QUIET ? row[k].angle : phase[t * bins + k];
    }
    free(nodes), free(seeds), free(stacks), free(logs);
    return there;
}
