// Random numbers: Philox 4x32-10 by counter, xorshift with a state for each thread, uniform and
// normal values from them (Box-Muller).

struct four {
    unsigned v[4];
};

__device__ four philox(four counter, unsigned key0, unsigned key1) {
#pragma unroll
    for (int round = 0; round < 10; round++) {
        unsigned high0 = __umulhi(0xD2511F53u, counter.v[0]), low0 = 0xD2511F53u * counter.v[0];
        unsigned long long second = 0xCD9E8D57ull * counter.v[2];
        counter = {{(unsigned)(second >> 32) ^ counter.v[1] ^ key0, (unsigned)second, high0 ^ counter.v[3] ^ key1, low0}};
        key0 += 0x9E3779B9u, key1 += 0xBB67AE85u;
    }
    return counter;
}

extern "C" __global__ void fill(uint4 *out, unsigned long long seed, unsigned long long first, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned long long at = first + i;
    four r = philox({{(unsigned)at, (unsigned)(at >> 32), 0, 0}}, (unsigned)seed, (unsigned)(seed >> 32));
    out[i] = {r.v[0], r.v[1], r.v[2], r.v[3]}; // bug 1: misaligned
}

// Dropout with a mask of bits: a byte for eight elements.
extern "C" __global__ void dropout(float *x, unsigned char *mask, int n, float keep) {
    int i = 8 * (blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= n) return;
    unsigned bits = 0;
    for (int half = 0; half < 2; half++) {
        four r = philox({{(unsigned)(i / 4 + half), 0, 0, 0}}, 42, 0);
        for (int k = 0; k < 4; k++) {
            bool kept = r.v[k] * 2.3283064e-10f < keep;
            bits |= kept << (4 * half + k);
            int at = i + 4 * half + k;
            if (at < n) x[at] = kept ? x[at] / keep : 0.f;
        }
    }
    mask[i / 8] = bits; // bug 2: out of bounds
}

extern "C" __global__ void walk(float2 *normals, unsigned long long *states, int n, int steps) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned long long s = states[i];
    float2 sum = {0, 0};
    for (int step = 0; step < steps; step++) {
        s ^= s << 13, s ^= s >> 7, s ^= s << 17;
        float u = ((unsigned)(s >> 40) + 1) * 0x1p-24f, v = (unsigned)(s & 0xffffff) * 0x1p-24f;
        float radius = sqrtf(-2.f * logf(u)), sine, cosine; // bug 3: uninitialised
        sincospif(2.f * v, &sine, &cosine);
        sum.x += radius * cosine, sum.y += radius * sine;
    }
    states[i] = s; // bug 3: uninitialised
    normals[i] = sum; // bug 3: uninitialised
}
