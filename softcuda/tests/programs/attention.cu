// Attention of single queries over keys and values in tiles, with the softmax's maximum and sum kept
// as tiles go by; a warp for each query, a lane for each pair of 64 channels. Causal.

enum { TILE = 16, WIDTH = 64 };

extern "C" __global__ void attend(float2 *out, const float2 *q, const float2 *k, const float2 *v, int length, float scale) {
    __shared__ float2 keys[TILE][WIDTH / 2], values[TILE][WIDTH / 2];
    int lane = threadIdx.x, warp = threadIdx.y, query = blockIdx.x * blockDim.y + warp;
    bool active = query < length;
    float2 own = active ? q[query * 32 + lane] : float2{0, 0}, sum = {0, 0};
    float most = -1e30f, weight = 0;
    int last = min((int)((blockIdx.x + 1) * blockDim.y), length);
    for (int first = 0; first < last; first += TILE) {
        for (int row = warp; row < TILE; row += blockDim.y) {
            bool there = first + row < length;
            keys[row][lane] = there ? k[(first + row) * 32 + lane] : float2{0, 0}; // bug 1: shared race
#if BUG == 2
            if (there) values[row][lane] = v[(first + row) * 32 + lane];
#else
            values[row][lane] = there ? v[(first + row) * 32 + lane] : float2{0, 0}; // bug 1: shared race
#endif
        }
        __syncthreads();
        for (int row = 0; row < TILE; row++) {
            float2 key = keys[row][lane]; // bug 1: shared race
            float score = own.x * key.x + own.y * key.y;
            for (int by = 16; by > 0; by /= 2) score += __shfl_xor_sync(0xffffffff, score, by);
            score = first + row <= query ? score * scale : -1e30f;
            float above = fmaxf(most, score), keep = __expf(most - above);
            float p = score <= -1e30f ? 0.f : __expf(score - above);
            float2 value = values[row][lane]; // bug 1: shared race
            sum = {sum.x * keep + p * value.x, sum.y * keep + p * value.y};
            weight = weight * keep + p;
            most = above;
        }
#if BUG != 1
        __syncthreads();
#endif
    }
    if (active) out[query * 32 + lane] = {sum.x / weight, sum.y / weight}; // bug 2: uninitialised
}
