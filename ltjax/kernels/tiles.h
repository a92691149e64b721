// The convolutions of units.cc where bfloat16 is stored, on the CPU's matrix tiles (AMX).
//
// Factors of products, and all that has the size of an activation, are rounded to bfloat16, to the
// nearest; sums are float32. A tile holds 16 rows of 64 bytes, and an instruction adds the product of two of them,
// 16 x 32 numbers each, to a third. A convolution is taken as it is defined: for an image with a
// border, `positions` are the pixels of its lines one after the other, border and all, and
//
//   y [positions, out] = the sum over the kernel's rows i of u [positions + i lines, 3 in] w_i [3 in, out],
//
// since the three pixels under a row of the kernel lie side by side. What falls on a border is left
// out. The kernel's gradient sums over positions, two of which a tile wants side by side.

#pragma once

#include "blocks.h"

#ifdef WITH_HALVES

#include <sys/syscall.h>
#include <unistd.h>

namespace tiles {
namespace {

// Rows of a tile, numbers in one of them, and numbers in a tile.
constexpr int kSide = 16, kDeep = 32, kTile = kSide * kDeep;

// The shape of all tiles, for a thread as long as this lives.
struct TileUse {
  struct alignas(64) {
    uint8_t palette = 1, first = 0, reserved[14] = {};
    uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } shape;
  TileUse() { _tile_loadconfig(&shape); }
  ~TileUse() { _tile_release(); }
};

// Where the tiles of a factor are: distances to the next one of M or N, and of the two sums, and from
// row to row of a tile.
struct Factor {
  const Half* first;
  int64_t next, high, wide, row;
};

// Reads the ends of a tile's rows where a sanitizer watches memory: it does not see what tiles read.
void touch([[maybe_unused]] const Half* tile, [[maybe_unused]] int64_t row) {
#ifdef __SANITIZE_ADDRESS__
  for (int r = 0; r < kSide; r++)
    for (int e : {0, kDeep - 1}) (void)*static_cast<const volatile Half*>(tile + r * row + e);
#endif
}

// c [16 M, 16 N] (+)= the sum over high and wide of tiles of a times tiles of b.
template <int M, int N>
void multiply_tiles(int64_t high, int64_t wide, const Factor& a, const Factor& b, float* c, int64_t dc, bool add) {
  const int64_t ra = a.row * sizeof(Half), rb = b.row * sizeof(Half), rc = dc * sizeof(float);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  if (add) {
    _tile_loadd(0, c, rc);
    if constexpr (N > 1) _tile_loadd(1, c + kSide, rc);
    if constexpr (M > 1) _tile_loadd(2, c + kSide * dc, rc);
    if constexpr (M > 1 && N > 1) _tile_loadd(3, c + kSide * dc + kSide, rc);
  }
  for (int64_t i = 0; i < high; i++) {
    const Half *left = a.first + i * a.high, *right = b.first + i * b.high;
    for (int64_t t = 0; t < wide; t++, left += a.wide, right += b.wide) {
      for (int m = 0; m < M; m++) touch(left + m * a.next, a.row);
      for (int n = 0; n < N; n++) touch(right + n * b.next, b.row);
      _tile_loadd(4, left, ra);
      if constexpr (M > 1) _tile_loadd(5, left + a.next, ra);
      _tile_loadd(6, right, rb);
      if constexpr (N > 1) _tile_loadd(7, right + b.next, rb);
      _tile_dpbf16ps(0, 4, 6);
      if constexpr (N > 1) _tile_dpbf16ps(1, 4, 7);
      if constexpr (M > 1) _tile_dpbf16ps(2, 5, 6);
      if constexpr (M > 1 && N > 1) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, c, rc);
  if constexpr (N > 1) _tile_stored(1, c + kSide, rc);
  if constexpr (M > 1) _tile_stored(2, c + kSide * dc, rc);
  if constexpr (M > 1 && N > 1) _tile_stored(3, c + kSide * dc + kSide, rc);
}

// The same of two tiles each, or one, of a and of b.
void multiply_tiles(bool two_high, bool two_wide, int64_t high, int64_t wide, const Factor& a, const Factor& b, float* c,
                    int64_t dc, bool add) {
  auto by = two_high ? (two_wide ? multiply_tiles<2, 2> : multiply_tiles<2, 1>)
                     : (two_wide ? multiply_tiles<1, 2> : multiply_tiles<1, 1>);
  by(high, wide, a, b, c, dc, add);
}

// ---------------------------------------------------------------------------------------------
// Rounding, and the order of numbers.

__m512 floats(const float* p) { return _mm512_loadu_ps(p); }

// a0 b0 a1 b1 ... of 16 numbers of a and 16 of b, which stand in v one after the other.
__m512i alternate(__m512i v) {
  alignas(64) static constexpr uint16_t order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                     8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return _mm512_permutexvar_epi16(_mm512_load_si512(order), v);
}

__m512i alternate(const Half* a, const Half* b) {
  const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a));
  const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b));
  return alternate(_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1));
}

// The matrix of 16 x 16 pairs of numbers, the other way round; rows of the result at `to`.
void turn_pairs(__m512i* r, Half* to) {
  __m512i s[16];
  UNROLL for (int i = 0; i < 16; i += 2) {
    s[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    s[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  UNROLL for (int i = 0; i < 16; i += 4)
    UNROLL for (int h = 0; h < 2; h++) {
      r[i + 2 * h] = _mm512_unpacklo_epi64(s[i + h], s[i + h + 2]);
      r[i + 2 * h + 1] = _mm512_unpackhi_epi64(s[i + h], s[i + h + 2]);
    }
  UNROLL for (int i = 0; i < 16; i += 8)
    UNROLL for (int j = 0; j < 4; j++) {
      s[i + j] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0x88);
      s[i + j + 4] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0xdd);
    }
  UNROLL for (int i = 0; i < 8; i++) {
    _mm512_storeu_si512(to + i * kDeep, _mm512_shuffle_i32x4(s[i], s[i + 8], 0x88));
    _mm512_storeu_si512(to + (i + 8) * kDeep, _mm512_shuffle_i32x4(s[i], s[i + 8], 0xdd));
  }
}

// ---------------------------------------------------------------------------------------------
// One convolution.

struct Unit : Shape {
  // Pixels of a line with its border, an even number.
  int64_t line() const { return up(width + 2, 2); }
  int64_t inside() const { return height * line(); }
  // Positions of an image with its border, and as many behind it as tiles reach over its end.
  int64_t positions() const { return up(int((height + 2) * line()) + 72, 4); }
  int64_t blocks() const { return up(int(inside()), kDeep) / kDeep; }
  // Images whose kernel's gradient is taken together, as many as a core's cache holds.
  int group() const {
    return int(std::max<int64_t>(1, std::min<int64_t>(8, (1 << 18) / (positions() * (3 * in + 2 * out)))));
  }
};

// Tiles of a row of a kernel whose input has so many channels.
int64_t tiles_of_row(int64_t channels) { return (3 * channels + kDeep - 1) / kDeep; }
// Two pixels of 16 channels fill a row of a tile, which is read fast only from an even position on. So
// that odd positions are read from the one before them, there is a second kernel, behind a pixel of zeros.
bool two_kernels(int64_t channels, int stride) { return channels == kSide && stride == 1; }
int64_t one_kernel(int64_t in, int64_t out) { return 3 * tiles_of_row(in) * out * kDeep; }
int64_t kernels(int64_t in, int64_t out, int stride) { return one_kernel(in, out) * (two_kernels(in, stride) ? 2 : 1); }

// Tiles [3, tiles_of_row, out / 16] of a kernel, 16 outputs by two inputs each in 16 rows, once or twice.
// `tile(i, k, o, to)` writes that of row i from input k and output o on.
template <class F>
void pack(int64_t in, int64_t out, int stride, Half* to, F tile) {
  for (int64_t behind = 0; behind <= (two_kernels(in, stride) ? in : 0); behind += in)
    for (int64_t i = 0; i < 3; i++)
      for (int64_t t = 0; t < tiles_of_row(in); t++)
        for (int64_t o = 0; o < out; o += kSide, to += kTile) tile(i, kDeep * t - behind, o, to);
}

// The kernel w [3, 3, in, out].
void pack_forward(const float* w, int64_t in, int64_t out, int stride, Half* to) {
  pack(in, out, stride, to, [&](int64_t i, int64_t k, int64_t o, Half* tile) {
    auto outputs = [&](int64_t at) {
      return at < 0 || at >= 3 * in ? _mm512_setzero_ps() : floats(w + (i * 3 * in + at) * out + o);
    };
    for (int r = 0; r < kDeep; r += 2)
      _mm512_storeu_si512(tile + kSide * r, alternate((__m512i)_mm512_cvtne2ps_pbh(outputs(k + r + 1), outputs(k + r))));
  });
}

// The kernel that the gradient of the input is convolved with: in and out exchanged, turned by half a
// circle.
void pack_backward(const float* w, int64_t in, int64_t out, Half* to) {
  pack(out, in, 1, to, [&](int64_t i, int64_t k, int64_t c, Half* tile) {
    auto inputs = [&](int64_t at, int64_t channel) {
      if (at < 0 || at >= 3 * out) return _mm512_setzero_ps();
      return floats(w + ((8 - 3 * i - at / out) * in + channel) * out + at % out);
    };
    __m512i rows[16];
    for (int r = 0; r < 16; r++) rows[r] = (__m512i)_mm512_cvtne2ps_pbh(inputs(k + kSide, c + r), inputs(k, c + r));
    turn_pairs(rows, tile);
  });
}

// An image of c channels with its border, rounded; `value(at, i)` are 16 numbers of it from element `at`
// on, of channel i. With a stride its pixels are spread, with zeros between them.
template <class Channels, class F>
void fill(const Unit& unit, Channels c, int stride, Half* out, F value) {
  const int64_t line = unit.line() * c, across = (unit.width - 1) / stride + 1;
  memset(out, 0, line * sizeof(Half));
  int64_t at = 0;
  for (int h = 0; h < unit.height; h++) {
    Half* to = out + (h + 1) * line;
    if (stride > 1) memset(to, 0, line * sizeof(Half));
    if (h % stride != 0) continue;
    memset(to, 0, c * sizeof(Half));
    for (int64_t w = 0; w < across; w++)
      for (int64_t i = 0; i < c; i += kVector, at += kVector) store(to + (1 + w * stride) * c + i, value(at, i));
    const int64_t done = (across - 1) * stride + 2;
    memset(to + done * c, 0, line * sizeof(Half) - done * c * sizeof(Half));
  }
  Half* end = out + (unit.height + 1) * line;
  memset(end, 0, (unit.positions() * c - (end - out)) * sizeof(Half));
}

// y [down, across, out] of an image with lines of so many pixels with their border, w packed. The tiles
// of 32 outputs are multiplied with all positions, so that they stay in the nearest cache.
template <class In, class Out, class To>
void convolve(In in, Out out, int64_t line, int down, int across, int stride, const Half* u, const Half* w, To* y) {
  const int64_t wide = tiles_of_row(in), one = kTile * (out / kSide), end = (down - 1) * line + across;
  // Of two kernels each computes every other position, side by side in a row of the block.
  const bool twice = two_kernels(in, stride);
  const int many = twice ? 4 * kSide : 2 * kSide;
  float* block = scratch(kProducts, many * 2 * kSide);
  for (int64_t o = 0; o < out;) {
    const bool pair = !twice && o + 2 * kSide <= out;
    const int64_t columns = pair ? 2 * kSide : kSide;
    const Factor b = {w + kTile * (o / kSide), twice ? one_kernel(in, out) : kTile, wide * one, one, kDeep};
    int64_t row = 0, column = 0;
    for (int64_t p = 0; p < end; p += many) {
      const Factor a = {u + stride * p * in, (twice ? 2 : stride) * kSide * in, line * in, kDeep, (twice ? 2 : stride) * in};
      multiply_tiles(true, twice || pair, 3, wide, a, b, block, twice ? 2 * kSide : columns, false);
      for (int r = 0; r < many && row < down; r++) {
        if (column < across) copy(block + r * columns, columns, y + (row * across + column) * out + o);
        if (++column == line) column = 0, row++;
      }
    }
    o += columns;
  }
}

// Tiles [blocks, out / 16] of the gradient of an image with its border: 32 positions of 16 channels.
void turn_gradient(const Unit& unit, const Half* g, Half* to) {
  const int64_t out = unit.out;
  g += (unit.line() + 1) * out;
  for (int64_t p = 0; p < unit.blocks() * kDeep; p += kDeep)
    for (int64_t o = 0; o < out; o += kSide, to += kTile) {
      __m512i rows[16];
      for (int r = 0; r < 16; r++) {
        const Half* pair = g + (p + 2 * r) * out + o;
        rows[r] = alternate(pair, pair + out);
      }
      turn_pairs(rows, to);
    }
}

// [positions / 2, in, 2]: two positions of an image side by side, of which `odd` is the first.
void pair_positions(const Unit& unit, int odd, const Half* u, Half* to) {
  const int64_t in = unit.in;
  for (int64_t p = odd; p + 1 < unit.positions(); p += 2)
    for (int64_t c = 0; c < in; c += kSide, to += kDeep)
      _mm512_storeu_si512(to, alternate(u + p * in + c, u + (p + 1) * in + c));
}

// dw [out, 9 in] += the gradient of the kernel from some images, the pairs of whose positions are at
// `pairs` (even and odd) and whose turned gradients at `g`.
void kernel_gradient(const Unit& unit, int images, const Half* const pairs[2], const Half* g, float* dw) {
  const int64_t in = unit.in, out = unit.out, wide = unit.blocks();
  const int64_t image = unit.positions() * in;
  auto under = [&](int64_t column) {  // the pairs under a tap, and a channel of theirs
    const int64_t tap = column / in, at = tap / 3 * unit.line() + tap % 3, odd = at & 1;
    return pairs[odd] + (at - odd) * in + 2 * (column % in);
  };
  for (int64_t o = 0; o < out;) {
    const bool high = o + 2 * kSide <= out;
    const Factor a = {g + o / kSide * kTile, kTile, wide * (out / kSide) * kTile, out / kSide * kTile, kDeep};
    for (int64_t column = 0; column < 9 * in;) {
      const bool two = column + 2 * kSide <= 9 * in;
      const Half* first = under(column);
      const Factor b = {first, two ? under(column + kSide) - first : 0, image, kDeep * in, 2 * in};
      multiply_tiles(high, two, images, wide, a, b, dw + o * 9 * in + column, 9 * in, true);
      column += two ? 2 * kSide : kSide;
    }
    o += high ? 2 * kSide : kSide;
  }
}

template <class In, class Out, class Pool>
void forward(In in, Out out, Pool& pool, const Unit& unit, const Before<Half>& before, const float* w, Half* y,
             float* sums, Half* kept) {
  const int parts = parts_of(unit.batch, 2 * out);
  std::vector<float> partial(size_t(parts) * 2 * out);
  std::vector<Half> packed(kernels(in, out, unit.stride));
  pack_forward(w, in, out, unit.stride, packed.data());
  in_parallel(pool, parts, [&](int part) {
    const TileUse use;
    Half* u = reinterpret_cast<Half*>(scratch(kPaddedInput, unit.positions() * in / 2));
    const int end = unit.batch * (part + 1) / parts;
    for (int n = unit.batch * part / parts; n < end; n++) {
      const int64_t from = n * unit.input();
      fill(unit, in, 1, u, [&](int64_t at, int64_t i) {
        const Vec v = input_at(in, before, from + at, i);
        if (kept != nullptr) store(kept + from + at, v);
        return v;
      });
      Half* to = y + n * unit.output();
      convolve(in, out, unit.line(), unit.down(), unit.across(), unit.stride, u, packed.data(), to);
      add_sums(out, to, to, unit.output() / out, partial.data() + size_t(part) * 2 * out);
    }
  });
  add_parts(partial, 2 * out, sums);
}

template <class In, class Out, class Pool>
void backward(In in, Out out, Pool& pool, const Unit& unit, const Before<Half>& before,
              const Arriving<Half, Half>& given, const float* w, const Leaving<Half>& leaving) {
  const int64_t kernel = 9 * int64_t(in) * out;
  const int64_t image = unit.positions() * in, turned = unit.blocks() * kDeep * out;
  const int parts = parts_of(unit.batch, kernel);
  std::vector<float> partial(size_t(parts) * 2 * in), sums(parts * kernel);
  std::vector<Half> packed(kernels(out, in, 1));
  pack_backward(w, in, out, packed.data());
  // Where u was kept it is not computed again.
  const Before<Half> input = given.kept == nullptr ? before : Before<Half>{given.kept, nullptr, nullptr};
  Half* dx = leaving.dx;
  in_parallel(pool, parts, [&](int part) {
    const TileUse use;
    Half* u = reinterpret_cast<Half*>(scratch(kPaddedInput, image / 2));
    Half* g = reinterpret_cast<Half*>(scratch(kPaddedGradient, unit.positions() * out / 2));
    Half* pairs = reinterpret_cast<Half*>(scratch(kTiles, unit.group() * image));
    Half* gradients = reinterpret_cast<Half*>(scratch(kGradients, unit.group() * turned / 2));
    float* convolved = scratch(kConvolved, unit.input());
    const Half* both[2] = {pairs, pairs + unit.group() * image};
    const int end = unit.batch * (part + 1) / parts;
    for (int n = unit.batch * part / parts; n < end; n += unit.group()) {
      const int images = std::min(unit.group(), end - n);
      for (int i = 0; i < images; i++) {
        const int64_t from = (n + i) * unit.input(), at = (n + i) * unit.output();
        fill(unit, in, 1, u, [&](int64_t e, int64_t c) { return input_at(in, input, from + e, c); });
        for (int odd = 0; odd < 2; odd++) pair_positions(unit, odd, u, pairs + (odd * unit.group() + i) * image);
        fill(unit, out, unit.stride, g, [&](int64_t e, int64_t c) {
          return norm_gradient(out, given.dy + at + e, given.y + at + e, given.k, c);
        });
        turn_gradient(unit, g, gradients + i * turned);
        if (dx == nullptr) continue;
        auto convolve_to = [&](auto* to) { convolve(out, in, unit.line(), unit.height, unit.width, 1, g, packed.data(), to); };
        if (before.affine == nullptr) {
          convolve_to(dx + from);
          continue;
        }
        convolve_to(convolved);
        end_gradient(in, before, given, nullptr, convolved, from, unit.input(), leaving,
                     partial.data() + size_t(part) * 2 * in);
      }
      kernel_gradient(unit, images, both, gradients, sums.data() + part * kernel);
    }
  });
  std::vector<float> sum(kernel);
  add_parts(sums, kernel, sum.data());
  for (int64_t o = 0; o < out; o++)
    for (int64_t k = 0; k < 9 * in; k++) leaving.dk[k * out + o] = sum[o * 9 * in + k];
  add_parts(partial, 2 * in, leaving.sums);
}

// Asks the system, which keeps the tiles' registers only for processes that do.
bool usable() {
  constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
  static const bool granted = syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
  return granted;
}

}  // namespace
}  // namespace tiles

#else

namespace tiles {
namespace {

struct Unit : Shape {};
template <class... T>
void forward(const T&...) {}
template <class... T>
void backward(const T&...) {}
bool usable() { return false; }

}  // namespace
}  // namespace tiles

#endif
