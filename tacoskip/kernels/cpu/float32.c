/* The networks' kernels in float32, for any processor. */

#include "vectors.h"

typedef float stored, gate;
typedef vector group;

/* Numbers of the summed dimension that one instruction takes. */
#define GROUP 1
#define EXPORT(name) float32_##name

INLINE vector load(const stored *at) { return VECTOR(at); }
INLINE void store(stored *at, vector x) { VECTOR(at) = x; }
INLINE vector load_gate(const gate *at) { return VECTOR(at); }
INLINE void store_gate(gate *at, vector x) { VECTOR(at) = x; }
INLINE vector sigmoid(vector x) { return 1.0f / (1.0f + exponential(-x)); }
INLINE vector hyperbolic(vector x) { return 1.0f - 2.0f / (1.0f + exponential(2.0f * x)); }
INLINE group load_group(const stored *at) { return VECTOR(at); }
INLINE group repeat(const stored *at) { return all(*at); }
INLINE vector multiply_add(group a, group b, vector sum) { return a * b + sum; }

/* Two rows of a vector into packed weights. */
INLINE void store_pair(stored *to, int64_t panel, vector first, vector second) {
    VECTOR(to) = first;
    VECTOR(to + panel) = second;
}

#include "kernels.h"
