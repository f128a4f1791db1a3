// printf with values of all kinds, assertions that hold, clocks, and a trap that is not reached.

#define CHECK(condition) \
    do { \
        if (!(condition)) __assertfail(#condition, "print_assert.cu", __LINE__, __func__, 1); \
    } while (0)

extern "C" __global__ void checked(int *out, const int *x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    long long start = clock64();
    if (i < n) {
        CHECK(x[i] >= 0);
        if (x[i] % 10 == 0) printf("x[%d] = %d, %s, %5.2f, %c, %llu\n", i, x[i], "ten", x[i] * 0.1, 'a' + i % 26, 1ull << i % 60);
        out[i] = x[i] + 1;
    }
    if (clock64() < start) __trap();
}
