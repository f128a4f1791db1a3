// Layer normalisation by rows with Welford's moments: of a thread, of a warp by shuffles, of the
// block through shared memory.

struct moments {
    float mean, m2, count;

    __device__ void add(float x) {
        count += 1;
        float delta = x - mean;
        mean += delta / count;
        m2 += delta * (x - mean);
    }
    __device__ void add(const moments &other) {
        if (other.count == 0) return; // bug 1: shared race
        float sum = count + other.count, delta = other.mean - mean;
        mean += delta * other.count / sum;
        m2 += other.m2 + delta * delta * count * other.count / sum;
        count = sum;
    }
    __device__ moments from_lane_above(int by) const {
        moments other;
        other.mean = __shfl_down_sync(0xffffffff, mean, by);
        other.m2 = __shfl_down_sync(0xffffffff, m2, by);
        other.count = __shfl_down_sync(0xffffffff, count, by);
        return other;
    }
};

extern "C" __global__ void __launch_bounds__(256) layer_norm(float *__restrict__ y, const float *__restrict__ x,
                                      const float *__restrict__ gain, const float *__restrict__ bias, int cols,
                                      float epsilon) {
    __shared__ moments of_warp[8];
    __shared__ float mean, scale;
    x += (long long)blockIdx.x * cols;
    y += (long long)blockIdx.x * cols;
#if BUG == 1 || BUG == 2 // and all is zero before, so that only the missing barrier is wrong
    if (threadIdx.x < 8) of_warp[threadIdx.x] = {0, 0, 0}; // bug 2: shared race
    if (threadIdx.x == 0) mean = scale = 0;
    __syncthreads();
#endif
    moments own = {0, 0, 0};
    for (int i = threadIdx.x; i < cols; i += blockDim.x) own.add(x[i]);
    for (int by = 16; by > 0; by /= 2) own.add(own.from_lane_above(by));
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = own; // bug 1: shared race
#if BUG != 1
    __syncthreads();
#endif
    if (threadIdx.x == 0) {
        for (int warp = 1; warp < blockDim.x / 32; warp++) own.add(of_warp[warp]); // bug 1: shared race
        mean = own.mean; // bug 2: shared race
        scale = rsqrtf(own.m2 / cols + epsilon); // bug 2: shared race
    }
#if BUG != 2
    __syncthreads();
#endif
    for (int i = threadIdx.x; i < cols; i += blockDim.x)
#if BUG == 3
        y[i] = (x[i] - mean) * scale * gain[i + 1] + bias[i]; // bug 3: out of bounds
#else
        y[i] = (x[i] - mean) * scale * gain[i] + bias[i]; // bug 2: shared race // bug 4: uninitialised
#endif
}
