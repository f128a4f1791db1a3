// Breadth-first search, one level in a launch: a thread for each vertex of the frontier, vertices
// are claimed by compare-and-swap, the next frontier grows by an atomic counter.

extern "C" __global__ void level(int *distance, int *next, int *count, const int *frontier, int size, const int *starts,
                                 const int *edges, int depth) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    int vertex = frontier[i];
    for (int e = starts[vertex]; e < starts[vertex + 1]; e++) {
        int to = edges[e];
#if BUG == 1
        if (distance[to] < 0) { // bug 1: global race
            distance[to] = depth; // bug 1: global race
            next[atomicAdd(count, 1)] = to; // bug 1: global race
        }
#elif BUG == 2
        if (atomicCAS(&distance[to], -1, depth) == -1) next[*count] = to, atomicAdd(count, 1); // bug 2: global race
#else
        if (atomicCAS(&distance[to], -1, depth) == -1) next[atomicAdd(count, 1)] = to; // bug 3: out of bounds
#endif
    }
}
