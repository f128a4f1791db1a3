// Warp specialisation with named barriers: producers arrive at "full" and wait at "empty", consumers
// the other way round; two buffers in turn. Producers scale, consumers accumulate columns.

enum { FULL = 1, EMPTY = 3, COLS = 64 };

__device__ __forceinline__ void sync(int id, int count) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(count) : "memory"); } // bug 1: barrier divergence // bug 2: barrier divergence
__device__ __forceinline__ void arrive(int id, int count) { asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(count) : "memory"); } // bug 2: barrier divergence

extern "C" __global__ void column_sums(float *out, const float *in, int rows, float scale) {
    __shared__ float buffer[2][COLS];
    int group = threadIdx.x / COLS, t = threadIdx.x % COLS;
    if (group == 0) {
        for (int row = 0; row < rows; row++) {
#if BUG == 3
            buffer[row % 2][t] = 0; // before it is empty // bug 3: shared race
#endif
            if (row >= 2) sync(EMPTY + row % 2, 2 * COLS);
            buffer[row % 2][t] = in[row * COLS + t] * scale; // bug 3: shared race // bug 4: shared race
#if BUG != 4
            __threadfence_block();
#endif
#if BUG == 1
            if (row != 1) arrive(FULL + row % 2, 2 * COLS);
#elif BUG == 2
            arrive(FULL + row % 2, row == 2 ? COLS : 2 * COLS); // bug 2: barrier divergence
#elif BUG == 4
            if (t >= 32) sync(5, 32);
            arrive(FULL + row % 2, 2 * COLS);
#else
            arrive(FULL + row % 2, 2 * COLS);
#endif
        }
    } else {
        float sum = 0;
        for (int row = 0; row < rows; row++) {
#if BUG != 4
            sync(FULL + row % 2, 2 * COLS);
#endif
            // The opposite column, so that another warp's work is needed.
            sum += buffer[row % 2][COLS - 1 - t]; // bug 3: shared race // bug 4: shared race
            if (row + 2 < rows) arrive(EMPTY + row % 2, 2 * COLS);
#if BUG == 4
            sync(FULL + row % 2, 2 * COLS);
#endif
        }
        out[COLS - 1 - t] = sum;
    }
}
