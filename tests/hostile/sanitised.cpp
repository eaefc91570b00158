// Drives the compiled sources over sizes and windows with memory of exactly their size: the sanitizers see every byte
// that is read or written outside of it. Built by test_sanitised.py with -DKERNEL, -DRESAMPLE or -DMERGE.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>

namespace {

uint64_t state = 1;
int pick(int below) {  // a number of 0 ... below - 1
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (int)((state >> 33) % (uint64_t)below);
}

template <class T>
struct Array {  // on the heap, aligned as torch's memory is, and not a byte longer than said
  T* data;
  size_t count;

  explicit Array(size_t n) : count(n) {
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, n * sizeof(T) ? n * sizeof(T) : 1)) std::abort();
    data = (T*)memory;
    for (size_t i = 0; i < n; i++) data[i] = (T)(pick(200) - (std::numeric_limits<T>::is_signed ? 100 : 0));
  }
  Array(const Array&) = delete;
  ~Array() { std::free(data); }
  operator T*() { return data; }
};

}  // namespace

#if defined(KERNEL)
extern "C" {
int verydeep_channels(int);
void verydeep_pack_winograd(const float*, const double*, int, int, float*, int);
void verydeep_pack_direct(const float*, const double*, int, int, int, int, float*);
size_t verydeep_winograd_floats(long, int, int, int, long);
void verydeep_winograd(const float*, int, int, int, int, int, const float*, const float*, int, float*, float*, int, long);
size_t verydeep_direct_floats(int, int, int, int, int);
void verydeep_direct(const float*, int, int, int, int, int, int, const float*, const float*, int, float*, float*, int);
void verydeep_first(const void*, int, const long*, const float*, const float*, int, int, int, int, int, const float*,
                    const float*, int, float*, float*, int);
void verydeep_normalise_and_pool(const float*, int, int, int, int, float, float, float*, int);
size_t verydeep_fully_connected_floats(long, int);
void verydeep_fully_connected(const float*, long, long, int, const float*, const float*, int, float*, float*, int);
void verydeep_pack_for_training(const float*, int, int, int, float*, int);
void verydeep_training_forward(const float*, int, int, int, int, int, const float*, const float*, int, int, float*,
                               uint8_t*, float*, int, long);
void verydeep_input_gradient(const float*, const float*, const uint8_t*, int, int, int, int, int, const float*, float*,
                             float*, int, long);
size_t verydeep_weight_gradient_floats(long, int, int);
void verydeep_weight_gradient(const float*, const float*, const float*, const uint8_t*, int, int, int, int, int, float*,
                              float*, float*, int);
}

namespace {

const int THREADS = 2;

void infer(int n, int height, int width, int c, int k, bool pool, long cache) {
  const int in = verydeep_channels(c), out = verydeep_channels(k);
  const size_t places = (size_t)n * (pool ? height / 2 : height) * (pool ? width / 2 : width);
  const long tiles = (long)n * ((height + 3) / 4) * ((width + 3) / 4);
  Array<float> map((size_t)n * height * width * in), bias(out), result(places * out);
  Array<double> factor(k);
  {
    Array<float> weights((size_t)k * c * 9), packed((size_t)36 * in * out);
    verydeep_pack_winograd(weights, factor, k, c, packed, THREADS);
    Array<float> work(verydeep_winograd_floats(tiles, in, out, THREADS, cache));
    verydeep_winograd(map, n, height, width, in, out, packed, bias, pool, result, work, THREADS, cache);
  }
  const int kernel = 1 + 2 * pick(3);
  {
    Array<float> weights((size_t)k * c * kernel * kernel), packed((size_t)out * in * kernel * kernel);
    verydeep_pack_direct(weights, factor, k, c, in, kernel, packed);
    Array<float> work(verydeep_direct_floats(width, in, out, kernel, THREADS));
    verydeep_direct(map, n, height, width, in, out, kernel, packed, bias, pool, result, work, THREADS);
  }
  Array<float> weights((size_t)k * 3 * kernel * kernel), packed((size_t)out * 3 * kernel * kernel), mean(3), divisor(3);
  divisor[0] = divisor[1] = divisor[2] = 1;
  verydeep_pack_direct(weights, factor, k, 3, 3, kernel, packed);
  Array<float> work(verydeep_direct_floats(width, 3, out, kernel, THREADS));
  const long area = (long)height * width, strides[2][4] = {{3 * area, area, width, 1}, {3 * area, 1, 3L * width, 3}};
  Array<uint8_t> bytes((size_t)n * 3 * area);
  Array<float> floats((size_t)n * 3 * area);
  const long* stride = strides[pick(2)];
  verydeep_first(bytes, 1, stride, mean, divisor, n, height, width, out, kernel, packed, bias, pool, result, work, THREADS);
  verydeep_first(floats, 0, stride, mean, divisor, n, height, width, out, kernel, packed, bias, pool, result, work, THREADS);
}

void train(int n, int height, int width, int c, int k, bool pool, long cache) {
  const int in = verydeep_channels(c), out = verydeep_channels(k);
  const size_t places = (size_t)n * height * width, pooled = pool ? (size_t)n * (height / 2) * (width / 2) : places;
  const long tiles = (long)n * ((height + 3) / 4) * ((width + 3) / 4);
  Array<float> map(places * in), weights((size_t)out * 9 * in), bias(out), result(pooled * out), gradient(pooled * out);
  Array<uint8_t> where(pool ? pooled * out : 0);
  {
    Array<float> packed((size_t)36 * in * out), work(verydeep_winograd_floats(tiles, in, out, THREADS, cache));
    verydeep_pack_for_training(weights, out, in, 0, packed, THREADS);
    verydeep_training_forward(map, n, height, width, in, out, packed, bias, 1, pool, result, pool ? (uint8_t*)where : nullptr,
                              work, THREADS, cache);
  }
  const float* output = pool || pick(2) ? (float*)result : nullptr;
  const uint8_t* from = pool ? (uint8_t*)where : nullptr;
  {
    Array<float> packed((size_t)36 * in * out), by_map(places * in);
    verydeep_pack_for_training(weights, out, in, 1, packed, THREADS);
    Array<float> work(verydeep_winograd_floats(tiles, out, in, THREADS, cache));
    verydeep_input_gradient(gradient, output, from, n, height, width, out, in, packed, by_map, work, THREADS, cache);
  }
  Array<float> by_weight((size_t)out * 9 * in), by_bias(out), work(verydeep_weight_gradient_floats(tiles, in, out));
  verydeep_weight_gradient(map, gradient, output, from, n, height, width, in, out, by_weight, by_bias, work, THREADS);
}

}  // namespace

int main(int, char** given) {
  const int rounds = std::atoi(given[1]), channels[] = {1, 2, 3, 5, 8, 16, 17, 24, 33, 48, 65};
  const int sides[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 17, 21};
  for (int round = 0; round < rounds; round++) {
    const int n = 1 + pick(3), height = sides[pick(14)], width = sides[pick(14)];
    const int c = channels[pick(11)], k = channels[pick(11)];
    const bool pool = height > 1 && width > 1 && pick(2);
    const long cache = 1L << (12 + pick(10));
    infer(n, height, width, c, k, pool, cache);
    train(n, height, width, c, k, pool, cache);
    Array<float> map((size_t)n * height * width * c), result((size_t)n * (height / 2) * (width / 2) * c);
    verydeep_normalise_and_pool(map, n, height, width, c, 1e-4f, 2, result, THREADS);
    const long count = 1 + pick(70), length = 1 + pick(3000);
    Array<float> rows(count * length), weights((size_t)k * length), bias(k), to((size_t)count * k);
    Array<float> work(verydeep_fully_connected_floats(count, THREADS));
    verydeep_fully_connected(rows, count, length, k, weights, bias, pick(2), to, work, THREADS);
  }
  std::printf("%d rounds\n", rounds);
}
#elif defined(RESAMPLE)
extern "C" int verydeep_resample(const uint8_t*, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int,
                                 const int32_t*, uint8_t*);

namespace {

void rescale(int64_t width, int64_t height, int64_t new_width, int64_t new_height, int64_t left, int64_t top,
             int64_t window_width, int64_t window_height) {
  Array<uint8_t> pixels((size_t)(width * height * 3)), to((size_t)(window_width * window_height * 3));
  const int32_t shift[3] = {pick(511) - 255, pick(511) - 255, pick(511) - 255};
  if (verydeep_resample(pixels, width, height, new_width, new_height, left, top, window_width, window_height, pick(2),
                        shift, to))
    std::abort();
}

}  // namespace

int main(int, char** given) {
  const int rounds = std::atoi(given[1]);
  for (int round = 0; round < rounds; round++) {
    const int small = pick(2) ? 12 : 300;
    const int width = 1 + pick(small), height = 1 + pick(small), new_width = 1 + pick(400), new_height = 1 + pick(400);
    const int window_width = 1 + pick(new_width), window_height = 1 + pick(new_height);
    rescale(width, height, new_width, new_height, pick(new_width - window_width + 1), pick(new_height - window_height + 1),
            window_width, window_height);
  }
  const int64_t most = (int64_t)1 << 31;  // resample.py's MOST_SIDE
  rescale(1, 3000000, 1, 3000000, 0, 2999990, 1, 10);
  rescale(1, 1000000, 256, 256000000, 10, 255999776, 224, 224);
  rescale(1000000, 1, 256000000, 256, 255999776, 10, 224, 224);
  rescale(3, 2, most, 7, most - 9, 0, 9, 7);
  rescale(2, 3, 7, most, 0, most - 9, 7, 9);
  std::printf("%d rounds\n", rounds);
}
#elif defined(MERGE)
extern "C" int verydeep_merge(double*, int64_t*, int64_t, double);

int main(int, char** given) {
  const int rounds = std::atoi(given[1]);
  const double odd[] = {NAN, INFINITY, -INFINITY, 1e308, -1e308, 0, 5e-324};
  for (int round = 0; round < rounds; round++) {
    const int n = pick(round % 10 ? 60 : 700);
    Array<double> corners((size_t)n * 4);
    Array<int64_t> into(n);
    if (pick(2))
      for (int i = 0; i < n; i++) corners[4 * i + 2] = corners[4 * i] + pick(90), corners[4 * i + 3] = corners[4 * i + 1] + pick(90);
    for (int i = 0; i < 4 * n && round % 3 == 0; i += 1 + pick(20)) corners[i] = odd[pick(7)];
    const double threshold = round % 7 ? pick(100) / 100. : odd[pick(7)];
    if (verydeep_merge(corners, into, n, threshold)) std::abort();
    for (int i = 0; i < n; i++)
      if (into[i] < 0 || into[i] >= n) std::abort();
  }
  std::printf("%d rounds\n", rounds);
}
#endif
