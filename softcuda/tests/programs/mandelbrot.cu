// Escape times of the Mandelbrot set: threads of a warp leave the loop at different times. With a
// palette in local memory, and a switch over the time.

extern "C" __global__ void escape(int *times, unsigned *colours, int width, int height, double left, double top, double size,
                                  int most) {
    int px = blockIdx.x * blockDim.x + threadIdx.x, py = blockIdx.y * blockDim.y + threadIdx.y;
    if (px >= width || py >= height) return;
    double cx = left + size * px / width, cy = top + size * py / height, x = 0, y = 0;
    int time = 0;
    while (time < most && x * x + y * y <= 4) {
        double t = x * x - y * y + cx;
        y = 2 * x * y + cy;
        x = t;
        time++;
    }
    unsigned palette[8];
    for (int i = 0; i < 8; i++) palette[i] = 0x010203u * (i * most % 83 + 1);
    unsigned colour;
    switch (time % 7) {
    case 0: colour = palette[time & 7]; break;
    case 1: colour = palette[(time + 3) & 7] >> 1; break;
    case 2: colour = ~palette[0]; break;
    case 3:
        if (time == most) {
            colour = 0;
            break;
        }
        // falls through
    case 4: colour = palette[time / 2 % 8] + 1; break;
    case 5: colour = palette[px & 7]; break;
    default: colour = 0xffffff;
    }
    times[py * width + px] = time; // bug 1: out of bounds
    colours[py * width + px] = colour;
}
