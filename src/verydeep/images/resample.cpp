// A window of a rescaled image: what Pillow's bilinear resize gives, rows before columns, to the last bit, and no pixel
// outside the window.
//
// One source, compiled once for each kind of vector; setup.py makes the libraries, resample.py chooses among them.
// Images lie row after row, three bytes a pixel. Rows are resampled four at a time: then a vector holds the same pixel
// of four rows, and all its lanes want the same weight.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

constexpr int ROWS = 4;  // resampled together
constexpr int PIXEL = 4;  // bytes of a pixel in between; the fourth is never used
constexpr int LANES = ROWS * PIXEL;
constexpr int PRECISION = 22;  // bits after the point of a weight: those of Pillow, so that every rounding is the same
constexpr int HALF = 1 << (PRECISION - 1);

typedef uint8_t Bytes __attribute__((vector_size(LANES)));
typedef int32_t Pixels __attribute__((vector_size(LANES)));

inline Bytes load(const uint8_t* from) {
  Bytes bytes;
  std::memcpy(&bytes, from, LANES);
  return bytes;
}

// ---- sixteen sums, in one vector or several ------------------------------------------------------------------------

#if defined(__AVX512F__)
constexpr int PARTS = 1;
typedef int32_t Part __attribute__((vector_size(64)));
inline Part widened(Bytes bytes, int) { return (Part)_mm512_maskz_cvtepu8_epi32(0xffff, (__m128i)bytes); }
inline Bytes narrowed(const Part* parts) { return (Bytes)_mm512_maskz_cvtepi32_epi8(0xffff, (__m512i)parts[0]); }
#elif defined(__AVX2__)
constexpr int PARTS = 2;
typedef int32_t Part __attribute__((vector_size(32)));
inline Part widened(Bytes bytes, int part) {
  return (Part)_mm256_cvtepu8_epi32(part == 0 ? (__m128i)bytes : _mm_srli_si128((__m128i)bytes, 8));
}
inline Bytes narrowed(const Part* parts) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32((__m256i)parts[0], (__m256i)parts[1]), 0xd8);
  return (Bytes)_mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}
#else
constexpr int PARTS = 4;
typedef int32_t Part __attribute__((vector_size(16)));
inline Part widened(Bytes bytes, int part) {
  const Bytes zero{};
  const Bytes words =
      part < 2 ? __builtin_shufflevector(bytes, zero, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
               : __builtin_shufflevector(bytes, zero, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  return part % 2 == 0
             ? (Part)__builtin_shufflevector(words, zero, 0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23)
             : (Part)__builtin_shufflevector(words, zero, 8, 9, 24, 25, 10, 11, 26, 27, 12, 13, 28, 29, 14, 15, 30, 31);
}
inline Bytes narrowed(const Part* parts) {
  Bytes half[2];
  for (int i = 0; i < 2; ++i)
    half[i] = __builtin_shufflevector((Bytes)parts[2 * i], (Bytes)parts[2 * i + 1], 0, 4, 8, 12, 16, 20, 24, 28,  //
                                      0, 0, 0, 0, 0, 0, 0, 0);
  return __builtin_shufflevector(half[0], half[1], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
}
#endif

struct Sums {
  Part parts[PARTS];

  Sums() {
    for (Part& part : parts) part = Part{} + HALF;
  }
  void add(Bytes pixels, int32_t weight) {
    for (int i = 0; i < PARTS; ++i) parts[i] += widened(pixels, i) * weight;
  }
  Bytes rounded() {
    for (Part& part : parts) part >>= PRECISION;
    return narrowed(parts);
  }
};

// For each position of a range of a resampled row or column: the first pixel it is made of, how many, their weights.
struct Axis {
  int64_t taps;  // at most
  std::vector<int64_t> first, count;
  std::vector<int32_t> weights;

  Axis(int64_t length, int64_t rescaled, int64_t begin, int64_t positions) : first(positions), count(positions) {
    const double scale = static_cast<double>(length) / rescaled, support = std::max(scale, 1.0), per = 1.0 / support;
    taps = static_cast<int64_t>(std::ceil(support)) * 2 + 1;
    weights.resize(static_cast<size_t>(positions) * taps);
    std::vector<double> triangle(taps);
    for (int64_t position = 0; position < positions; ++position) {
      const double centre = (begin + position + 0.5) * scale;
      const int64_t from = std::max<int64_t>(0, static_cast<int64_t>(centre - support + 0.5));
      const int64_t to = std::min(length, static_cast<int64_t>(centre + support + 0.5));
      double total = 0;
      for (int64_t tap = 0; tap < to - from; ++tap) {
        const double distance = std::abs((tap + from - centre + 0.5) * per);
        triangle[tap] = distance < 1 ? 1 - distance : 0;
        total += triangle[tap];
      }
      int32_t* own = &weights[static_cast<size_t>(position) * taps];
      int64_t last = 0;
      for (int64_t tap = 0; tap < to - from; ++tap) {
        own[tap] = static_cast<int32_t>(0.5 + (total != 0 ? triangle[tap] / total : triangle[tap]) * (1 << PRECISION));
        if (own[tap] != 0) last = tap;
      }
      first[position] = from;
      count[position] = last + 1;
    }
  }
  int64_t begin() const { return first.front(); }
  int64_t end() const { return first.back() + count.back(); }
};

struct Image {
  const uint8_t* pixels;
  int64_t width, height;

  // puts a stretch of four rows side by side, pixel for pixel; below the last row comes the last again
  void interleave(int64_t top, int64_t begin, int64_t end, uint8_t* to) const {
    for (int row = 0; row < ROWS; ++row) {
      const int64_t y = std::min(top + row, height - 1);
      const uint8_t* from = pixels + (y * width + begin) * 3;
      const int64_t whole = end - begin - (y == height - 1 && end == width);  // whose fourth byte may be read
      for (int64_t x = 0; x < whole; ++x) std::memcpy(to + x * LANES + row * PIXEL, from + x * 3, PIXEL);
      if (whole < end - begin) std::memcpy(to + whole * LANES + row * PIXEL, from + whole * 3, 3);
    }
  }
};

inline Bytes shifted(Bytes pixels, Bytes more, Bytes less) {
  const Bytes sum = pixels + more, brighter = sum | (Bytes)(sum < more);  // 255 where it overflows
  return (brighter - less) & (Bytes)(brighter >= less);
}

// four resampled rows, `stride` bytes apart
void resample_across(const Axis& across, const uint8_t* interleaved, uint8_t* to, size_t stride) {
  const int64_t positions = across.first.size(), begin = across.begin();
  // as many taps for every position, though the last weights of most are zero: a CPU predicts such loops
  const int64_t taps = *std::max_element(across.count.begin(), across.count.end());
  for (int64_t x = 0; x < positions; ++x) {
    const uint8_t* from = interleaved + (across.first[x] - begin) * LANES;
    const int32_t* weights = &across.weights[x * across.taps];
    Sums sums;
    for (int64_t tap = 0; tap < taps; ++tap) sums.add(load(from + tap * LANES), weights[tap]);
    const Bytes bytes = sums.rounded();
    Pixels four;
    std::memcpy(&four, &bytes, LANES);
    for (int row = 0; row < ROWS; ++row) {
      const int32_t pixel = four[row];
      std::memcpy(to + row * stride + x * PIXEL, &pixel, PIXEL);
    }
  }
}

void write_row(const uint8_t* from, int64_t width, bool mirrored, uint8_t* to) {
  const int step = mirrored ? -PIXEL : PIXEL;
  from += mirrored ? (width - 1) * PIXEL : 0;
  for (int64_t x = 0; x < width - 1; ++x, from += step) std::memcpy(to + x * 3, from, PIXEL);
  std::memcpy(to + (width - 1) * 3, from, 3);
}

void resample(const Image& image, const Axis& across, const Axis& down, bool mirrored, const int32_t* shift,
              uint8_t* to) {
  const int64_t width = across.first.size(), height = down.first.size();
  const int64_t stride = (width + ROWS) * PIXEL;  // a vector may reach beyond the last pixel
  // rows of the ring: those that one row of the window is made of, rounded up, for four are resampled together
  const int64_t held = (down.taps + 2 * ROWS - 1) / ROWS * ROWS;
  std::vector<uint8_t> ring(held * stride), row(stride);
  std::vector<uint8_t> interleaved((across.end() - across.begin() + across.taps) * LANES);
  std::vector<const uint8_t*> rows(down.taps);
  Bytes more, less;  // what is added to a colour, and what is taken from it
  for (int lane = 0; lane < LANES; ++lane) {
    const int32_t by = lane % PIXEL < 3 ? shift[lane % PIXEL] : 0;
    more[lane] = static_cast<uint8_t>(std::clamp(by, 0, 255));
    less[lane] = static_cast<uint8_t>(std::clamp(-by, 0, 255));
  }
  const int64_t top = down.begin();
  int64_t next = top;  // the first row that is not in the ring
  for (int64_t y = 0; y < height; ++y) {
    const int64_t first = down.first[y], count = down.count[y];
    while (next < first + count) {
      image.interleave(next, across.begin(), across.end(), interleaved.data());
      resample_across(across, interleaved.data(), &ring[(next - top) % held * stride], stride);
      next += ROWS;
    }
    const int32_t* weights = &down.weights[y * down.taps];
    for (int64_t tap = 0; tap < count; ++tap) rows[tap] = &ring[(first - top + tap) % held * stride];
    for (int64_t x = 0; x < width; x += ROWS) {
      Sums sums;
      for (int64_t tap = 0; tap < count; ++tap) sums.add(load(rows[tap] + x * PIXEL), weights[tap]);
      const Bytes bytes = shifted(sums.rounded(), more, less);
      std::memcpy(&row[x * PIXEL], &bytes, LANES);
    }
    write_row(row.data(), width, mirrored, to + y * width * 3);
  }
}

}  // namespace

extern "C" {

const char* verydeep_source() { return VERYDEEP_SOURCE; }

// the kind of vectors that this CPU has: 2 AVX-512, 1 AVX2 with FMA, 0 neither
int verydeep_vectors() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return 2;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
  return 0;
}

// A window of an image rescaled to new_width x new_height, mirrored if asked for, its colours shifted; 0, or 1 where
// there is no memory.
int verydeep_resample(const uint8_t* pixels, int64_t width, int64_t height, int64_t new_width, int64_t new_height,
                      int64_t left, int64_t top, int64_t window_width, int64_t window_height, int mirrored,
                      const int32_t* shift, uint8_t* to) {
  try {
    const Axis across(width, new_width, left, window_width), down(height, new_height, top, window_height);
    resample({pixels, width, height}, across, down, mirrored, shift, to);
  } catch (...) {  // bad_alloc, or length_error of a vector that no memory could hold; C has no exceptions
    return 1;
  }
  return 0;
}
}
