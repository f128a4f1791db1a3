// The game of life on a torus, 32 cells in a word: neighbours by funnel shifts, sums in bit planes
// (full adders become lop3), an odd rule by prmt and bfe at the end.

__device__ __forceinline__ unsigned majority(unsigned a, unsigned b, unsigned c) { return (a & b) | (a & c) | (b & c); }

// Bit planes of the sum of a row's three cells.
__device__ __forceinline__ void row_sum(unsigned left, unsigned mid, unsigned right, unsigned &low, unsigned &high) {
    unsigned a = __funnelshift_l(left, mid, 1), b = __funnelshift_r(mid, right, 1);
    low = a ^ mid ^ b;
    high = majority(a, mid, b);
}

extern "C" __global__ void step(unsigned *out, const unsigned *in, int words, int rows) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= words * rows) return;
    int x = i % words, y = i / words, left = (x + words - 1) % words, right = (x + 1) % words;
    unsigned low[3], high[3];
    for (int d = 0; d < 3; d++) {
        const unsigned *row = in + (y + d + rows - 1) % rows * words;
        row_sum(row[left], row[x], row[right], low[d], high[d]);
    }
    // The sum of nine cells, in planes of 1, 2, 4 and 8.
    unsigned ones = low[0] ^ low[1] ^ low[2], carry = majority(low[0], low[1], low[2]);
    unsigned twos = high[0] ^ high[1] ^ high[2], fours = majority(high[0], high[1], high[2]);
    unsigned more = twos & carry;
    twos ^= carry;
    unsigned eights = fours & more;
    fours ^= more;
    // Alive: three in all, or four with the cell itself.
    unsigned three = ones & twos & ~fours & ~eights, four = ~ones & ~twos & fours & ~eights;
    out[i] = three | (four & in[i]);
}

// For each word: cells in its bytes reversed, and the length of the run of cells from a bit on.
extern "C" __global__ void describe(unsigned *reversed, int *runs, const unsigned *in, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned word = in[i];
    reversed[i] = __byte_perm(word, 0, 0x0123) ^ __brev(word);
    unsigned from = i % 32, gaps = ~word >> from;
    runs[i] = (gaps ? __ffs(gaps) - 1 : 32 - from) | __clz(word) << 8 | __popc(word & (2u << from) - 1) << 16;
}
