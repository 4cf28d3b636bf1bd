/* Phase gradient heap integration (audio/phase.py), T frames, F bins.
 *
 * What is known of a bin lies in one place, its slopes worked out before: a step from bin to bin
 * looks at two places in memory, and not at two of each of five arrays. A border of quiet bins spares
 * the loop its edges.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "elementwise.h"

/* Slopes, phase; and a level (0 and up) while it waits, then, from -1 down, who is below it in the
 * stack of its level: -1 nobody, -2 - i node i.
 */
typedef struct {
    float time, frequency, angle;
    int32_t state;
} node;

#define QUIET INT32_MIN

/* Reach a bin that waits, from one that has its phase. */
INLINE void reach(node *nodes, int64_t there, float angle, int32_t *stacks, int64_t *best) {
    const int32_t level = nodes[there].state;
    nodes[there].angle = angle;
    nodes[there].state = -2 - stacks[level];
    stacks[level] = (int32_t)there;
    *best = level > *best ? level : *best;
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

/* Slopes, levels and seeds of a frame of log magnitudes; returns the seeds: bins no quieter than
 * their neighbours. before, after: the frames beside it, or itself at an end.
 */
static int64_t lay_out(const float *height, const float *before, const float *after, int64_t bins,
                       const float *advance, const float *slopes, float steps, int64_t levels,
                       node *row, int32_t first, int32_t *seeds) {
    const float threshold = slopes[0], time = slopes[1], frequency = slopes[2], centre = slopes[3];
    const int32_t top = (int32_t)levels - 1;
    const float share = before != height && after != height ? 0.5f : 1.0f;
    int64_t found = 0;
    for (int64_t k = 0; k < bins; k++) {
        const float left = height[k ? k - 1 : 0], right = height[k < bins - 1 ? k + 1 : k];
        const float across = k && k < bins - 1 ? right - left : 0.0f;
        row[k].time = advance[k] + 0.5f * time * across;
        row[k].frequency = centre + share * frequency * (after[k] - before[k]);
        row[k].angle = 0;
        const int32_t level = (int32_t)((height[k] - threshold) * steps);
        row[k].state = height[k] <= threshold ? QUIET : level < top ? level : top;
        if (height[k] > threshold && height[k] >= left && height[k] >= right &&
            height[k] >= before[k] && height[k] >= after[k])
            seeds[found++] = first + (int32_t)k;
    }
    return found;
}

/* Write the phases of magnitudes (T, F) into `phase` (T, F); the first `known` frames stay.
 * slopes: threshold (log), of time, of frequency, of the window's centre; steps: levels a neper, of
 * which there are `levels` at most; advance (F,). 0 where there was no memory.
 */
int integrate(int64_t frames, int64_t bins, int64_t known, const float *magnitude, float *phase,
              const float *slopes, const float *advance, float steps, int64_t levels) {
    const int64_t stride = bins + 1, first = known > 0 ? known - 1 : 0, rows = frames - first;
    const int64_t size = (rows + 2) * stride + 1;
    node *nodes = room(sizeof(node) * size);
    int32_t *seeds = room(8 * size), *below = seeds + size;
    int32_t *stacks = room(8 * levels), *tops = stacks + levels;
    float *logs = room(12 * bins);
    const int there = nodes && seeds && stacks && logs;
    int64_t count = 0, best = -1;
    if (there) {
        for (int64_t i = 0; i < 2 * levels; i++) stacks[i] = -1;
        for (int64_t i = 0; i < stride; i++) nodes[i].state = nodes[size - 1 - i].state = QUIET;
        for (int64_t row = 1; row <= rows + 1; row++) nodes[row * stride].state = QUIET;
        for (int64_t t = first ? first - 1 : 0; t <= first; t++)
            logarithms(magnitude + t * bins, bins, logs + t % 3 * bins);
    }
    for (int64_t t = first; there && t < frames; t++) {
        const int64_t next = t + 1 < frames ? t + 1 : t, place = (t - first + 1) * stride + 1;
        if (next > t) logarithms(magnitude + next * bins, bins, logs + next % 3 * bins);
        const int64_t found = lay_out(logs + t % 3 * bins, logs + (t ? t - 1 : 0) % 3 * bins,
                                      logs + next % 3 * bins, bins, advance, slopes, steps, levels,
                                      nodes + place, (int32_t)place, seeds + count);
        for (int64_t i = count; t >= known && i < count + found; i++) {
            const int32_t level = nodes[seeds[i]].state;
            below[i] = tops[level];
            tops[level] = (int32_t)i;
        }
        if (t >= known) count += found;
        for (int64_t k = 0; t < known && k < bins; k++)
            if (nodes[place + k].state != QUIET)
                reach(nodes, place + k, phase[t * bins + k], stacks, &best);
    }
    for (int64_t seed_level = there ? levels - 1 : -1;;) {
        while (best >= 0 && stacks[best] < 0) best--;
        int64_t here;
        if (best >= 0) {
            here = stacks[best];
            stacks[best] = -2 - nodes[here].state;
        } else { /* nothing in reach: begin anew at the loudest bin left */
            while (seed_level >= 0) {
                const int64_t top = tops[seed_level];
                if (top >= 0 && nodes[seeds[top]].state >= 0) break;
                if (top >= 0)
                    tops[seed_level] = below[top];
                else
                    seed_level--;
            }
            if (seed_level < 0) break;
            here = seeds[tops[seed_level]];
            nodes[here].state = -1;
        }
        const node now = nodes[here], *later = nodes + here + stride, *sooner = nodes + here - stride;
        const node *above = nodes + here + 1, *under = nodes + here - 1;
        if (later->state >= 0)
            reach(nodes, here + stride, now.angle + 0.5f * (now.time + later->time), stacks, &best);
        if (sooner->state >= 0)
            reach(nodes, here - stride, now.angle - 0.5f * (now.time + sooner->time), stacks, &best);
        if (above->state >= 0)
            reach(nodes, here + 1, now.angle + 0.5f * (now.frequency + above->frequency), stacks,
                  &best);
        if (under->state >= 0)
            reach(nodes, here - 1, now.angle - 0.5f * (now.frequency + under->frequency), stacks,
                  &best);
    }
    for (int64_t t = known; there && t < frames; t++) {
        const node *row = nodes + (t - first + 1) * stride + 1;
        for (int64_t k = 0; k < bins; k++)
            if (row[k].state != QUIET) phase[t * bins + k] = row[k].angle;
    }
    free(nodes), free(seeds), free(stacks), free(logs);
    return there;
}
