// Connected components by union-find: roots are hooked onto smaller ones by compare-and-swap,
// paths are halved on the way, a second launch flattens the trees.

__device__ int load(const int *at) { return *(const volatile int *)at; } // bug 1: global race

__device__ int find(int *parent, int v) {
    for (;;) {
        int up = load(&parent[v]);
        if (up == v) return v;
        int top = load(&parent[up]);
        if (top == up) return up;
        // Another thread may have done better: then this changes nothing.
        atomicCAS(&parent[v], up, top);
        v = top;
    }
}

extern "C" __global__ void unite(int *parent, const int2 *edges, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int a = edges[i].x, b = edges[i].y;
    for (;;) {
        a = find(parent, a), b = find(parent, b);
        if (a == b) return;
        if (a < b) {
            int t = a;
            a = b, b = t;
        }
#if BUG == 1
        if (parent[a] == a) { // bug 1: global race
            parent[a] = b; // bug 1: global race
            return;
        }
#else
        if (atomicCAS(&parent[a], a, b) == a) return;
#endif
    }
}

extern "C" __global__ void flatten(int *root, int *parent, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) root[i] = find(parent, i);
}
