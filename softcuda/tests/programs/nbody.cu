// Gravity of all bodies on all: positions in tiles of shared memory, reciprocal square roots, one
// leapfrog step.

extern "C" __global__ void step(float4 *out, float4 *velocity, const float4 *bodies, int n, float dt, float softening) {
    extern __shared__ float4 tile[];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    float4 own = bodies[min(i, n - 1)];
    float ax = 0, ay = 0, az = 0;
    for (int first = 0; first < n; first += blockDim.x) {
        int j = first + threadIdx.x;
        tile[threadIdx.x] = j < n ? bodies[j] : float4{0, 0, 0, 0}; // bug 1: out of bounds // bug 2: shared race
        __syncthreads();
        for (int k = 0; k < blockDim.x; k++) {
            float4 other = tile[k]; // bug 2: shared race
            float dx = other.x - own.x, dy = other.y - own.y, dz = other.z - own.z;
            float r = rsqrtf(fmaf(dx, dx, fmaf(dy, dy, fmaf(dz, dz, softening))));
            float f = other.w * r * r * r;
            ax = fmaf(dx, f, ax), ay = fmaf(dy, f, ay), az = fmaf(dz, f, az);
        }
#if BUG != 2
        __syncthreads();
#endif
    }
    if (i >= n) return;
    float4 v = velocity[i];
    v.x += dt * ax, v.y += dt * ay, v.z += dt * az;
    velocity[i] = v;
    out[i] = {own.x + dt * v.x, own.y + dt * v.y, own.z + dt * v.z, own.w};
}
