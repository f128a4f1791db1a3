// A moving average of rows through a pipeline of cp.async: STAGES tiles in shared memory, each
// filled some steps before it is used. Ends of rows are filled with zeros by the copy itself.

enum { STAGES = 3, WIDTH = 128, RADIUS = 4 };

__device__ __forceinline__ void copy16(float *to, const float *from, int bytes) {
    unsigned at = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(bytes) : "memory"); // bug 2: missing cp.async wait
}
__device__ __forceinline__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int pending> __device__ __forceinline__ void wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// A block of 32 threads for a row of `cols` floats, a multiple of 4; 16 bytes for each thread and
// tile, and the halo by two more.
extern "C" __global__ void smooth(float *out, const float *in, int cols) {
    __shared__ __align__(16) float tiles[STAGES][WIDTH + 2 * RADIUS];
    const float *row = in + (size_t)blockIdx.x * cols;
    int t = threadIdx.x, tiles_of_row = (cols + WIDTH - 1) / WIDTH;
    auto fill = [&](int tile) {
        float *to = tiles[tile % STAGES];
        for (int i = 4 * t; i < WIDTH + 2 * RADIUS; i += 4 * 32) {
            int col = tile * WIDTH + i - RADIUS;
            bool inside = col >= 0 && col < cols;
            copy16(to + i, inside ? row + col : row, inside ? 16 : 0);
        }
    };
    for (int tile = 0; tile < STAGES - 1; tile++) {
        if (tile < tiles_of_row) fill(tile);
        commit();
    }
    for (int tile = 0; tile < tiles_of_row; tile++) {
        if (tile + STAGES - 1 < tiles_of_row) fill(tile + STAGES - 1);
#if BUG != 3
        commit();
#endif
#if BUG == 1
        wait<STAGES>();
#elif BUG != 2
        wait<STAGES - 1>();
#endif
        __syncthreads();
        const float *from = tiles[tile % STAGES];
        for (int i = t; i < WIDTH; i += 32) {
            float sum = 0;
            for (int k = 0; k <= 2 * RADIUS; k++) sum += from[i + k]; // bug 1: missing cp.async wait // bug 2: missing cp.async wait // bug 3: missing cp.async wait
            if (tile * WIDTH + i < cols) out[(size_t)blockIdx.x * cols + tile * WIDTH + i] = sum * (1.f / 9);
        }
        __syncthreads();
    }
}

// 4-byte copies that gather through an index, waited for as a whole.
extern "C" __global__ void gather_sorted(int *out, const int *table, const int *index, int n) {
    __shared__ int values[256];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned at = (unsigned)__cvta_generic_to_shared(&values[threadIdx.x]);
    if (i < n)
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(at), "l"(table + index[i]) : "memory"); // bug 5: out of bounds
#if BUG == 4
    commit();
#else
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
    __syncthreads();
    // Each thread counts how many of its block are smaller: a rank sort.
    int count = min((int)blockDim.x, n - (int)(blockIdx.x * blockDim.x));
    if (i >= n) return;
    int own = values[threadIdx.x], rank = 0; // bug 4: missing cp.async wait
    for (int k = 0; k < count; k++) rank += values[k] < own || (values[k] == own && k < threadIdx.x); // bug 4: missing cp.async wait
    out[blockIdx.x * blockDim.x + rank] = own;
}
