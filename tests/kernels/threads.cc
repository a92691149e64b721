// The kernels under a sanitizer, without Python: a pool of three threads runs every kind of unit.
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <functional>
#include <mutex>

#include "../../ltjax/kernels/eigh.cc"
#include "../../ltjax/kernels/pooling.cc"
#include "../../ltjax/kernels/products.cc"
#include "../../ltjax/kernels/units.cc"

namespace {

struct Threads {
  std::mutex mutex;
  std::condition_variable wake;
  std::deque<std::function<void()>> tasks;
  std::vector<std::thread> threads;
  bool ended = false;
  explicit Threads(int count) {
    for (int t = 0; t < count; t++) threads.emplace_back([this] { run(); });
  }
  ~Threads() {
    {
      std::lock_guard<std::mutex> lock(mutex);
      ended = true;
    }
    wake.notify_all();
    for (auto& thread : threads) thread.join();
  }
  void run() {
    for (;;) {
      std::unique_lock<std::mutex> lock(mutex);
      wake.wait(lock, [this] { return ended || !tasks.empty(); });
      if (tasks.empty()) return;
      auto task = std::move(tasks.front());
      tasks.pop_front();
      lock.unlock();
      task();
    }
  }
  int64_t num_threads() const { return int64_t(threads.size()) + 1; }
  template <class F>
  void Schedule(F&& f) {
    {
      std::lock_guard<std::mutex> lock(mutex);
      tasks.emplace_back(std::forward<F>(f));
    }
    wake.notify_one();
  }
};

std::vector<float> numbers(size_t n) {
  std::vector<float> v(n);
  unsigned state = 12345;
  for (float& x : v) state = state * 1664525u + 1013904223u, x = float(state >> 8) / float(1 << 23) - 1;
  return v;
}

// The same as they are stored; bfloat16 by cutting.
template <class T>
std::vector<T> stored(size_t n) {
  const auto from = numbers(n);
  std::vector<T> v(n);
  for (size_t i = 0; i < n; i++)
    if constexpr (std::is_same_v<T, float>) v[i] = from[i];
    else v[i] = T(reinterpret_cast<const uint32_t&>(from[i]) >> 16);
  return v;
}

template <class T>
double checksum(const std::vector<T>& v) {
  double total = 0;
  for (size_t i = 0; i < v.size(); i++) total += double(v[i]) * double(i % 97 + 1);
  return total;
}

// One convolution forward and backward on `threads` threads, of T before it and Y after it; a checksum
// of all that comes out.
template <class T, class Y>
double run(const Product& p, int threads) {
  Threads pool(threads - 1);
  const int64_t in = p.in, out = p.out;
  const bool norm = in % kVector == 0;
  const auto x = stored<T>(p.batch * p.input()), shortcut = stored<T>(x.size());
  const auto dy = stored<Y>(p.batch * p.pixels() * out), z = stored<Y>(dy.size());
  const auto w = numbers(p.kernel()), affine = numbers(2 * in), k = numbers(2 * out);
  std::vector<Y> y(dy.size());
  std::vector<T> kept(x.size()), dx(x.size()), pooled(x.size()), dshortcut(x.size());
  std::vector<float> sums(2 * out), dsums(2 * in), dk(w.size());
  const Before<T> before = {x.data(), norm ? affine.data() : nullptr, norm ? shortcut.data() : nullptr};
  T* keep = norm ? kept.data() : nullptr;
  const Arriving<Y, T> given = {dy.data(), z.data(), k.data(), norm ? shortcut.data() : nullptr, keep};
  const Leaving<T> leaving = {norm ? dx.data() : nullptr, dsums.data(), dk.data(), norm ? dshortcut.data() : nullptr};
  constexpr bool floats = std::is_same_v<T, float>;
  bool done = false;
  if constexpr (std::is_same_v<T, Y>) {
    using Own = std::conditional_t<floats, Unit, tiles::Unit>;
    const Shape shape = {p.batch, p.height, p.width, p.in, p.out, p.stride};
    done = p.size == 3 && norm && (floats ? p.stride == 1 : !p.same);
    if (done)
      with_widths(shape, [&](auto a, auto b) {
        forward(a, b, pool, Own{shape}, before, w.data(), y.data(), sums.data(), keep);
        backward(a, b, pool, Own{shape}, before, given, w.data(), leaving);
      });
  }
  if (!done) {
    forward(pool, p, before, w.data(), y.data(), sums.data(), keep);
    backward(pool, p, before, given, w.data(), leaving);
  }
  if (norm) {
    const Pool windows = {p.batch, p.height, p.width, p.in};
    forward(pool, windows, x.data(), affine.data(), pooled.data());
    backward(pool, windows, pooled.data(), x.data(), affine.data(), kept.data(), dsums.data());
  }
  return checksum(pooled) + checksum(y) + checksum(sums) + checksum(kept) + checksum(dx) + checksum(dsums) +
         checksum(dk) + checksum(dshortcut);
}

// Whether one and four threads come to the same.
template <class T, class Y>
bool equal(const Product& p) {
  const double one = run<T, Y>(p, 1), four = run<T, Y>(p, 4);
  if (one != four) printf("threads change the result: %.17g, %.17g\n", one, four);
  return one == four;
}

bool equal_in_bfloat16([[maybe_unused]] const Product& p) {
#ifdef WITH_HALVES
  if (tiles::usable()) return p.in % kVector == 0 ? equal<Half, Half>(p) : equal<float, Half>(p);
#endif
  return true;
}

// In the place of LAPACK and BLAS, which a sanitizer cannot see into: each function reads and writes
// all that its documentation lets it, and leaves numbers that depend on all that it has read.
float mixed(float* x, size_t rows, size_t columns, size_t apart, float with) {
  for (size_t c = 0; c < columns; c++)
    for (size_t r = 0; r < rows; r++) with = x[c * apart + r] = std::sin(x[c * apart + r] + 0.5f * with);
  return with;
}

float seen(const float* x, size_t rows, size_t columns, size_t apart) {
  float sum = 0;
  for (size_t c = 0; c < columns; c++)
    for (size_t r = 0; r < rows; r++) sum = std::sin(sum + x[c * apart + r]);
  return sum;
}

void reduce(Text, Int* n, float* a, Int* apart, float* d, float* e, float* tau, float* work, Int* size, Int*) {
  const float x = mixed(work, *size, 1, *size, mixed(a, *n, *n, *apart, 1));
  mixed(tau, *n - 1, 1, *n, mixed(e, *n - 1, 1, *n, mixed(d, *n, 1, *n, x)));
}

void solve_half(Text, Int* n, float* d, float* e, float* z, Int* apart, float* work, Int* floats, Int* more, Int* ints,
                Int* failed) {
  if (*floats < 1 + 4 * *n + *n * *n || *ints < 3 + 5 * *n) *failed = 1;
  std::fill_n(work, *floats, 0.0f), std::fill_n(more, *ints, 0);
  mixed(z, *n, *n, *apart, mixed(d, *n, 1, *n, seen(e, *n - 1, 1, *n)));
}

void join_halves(Int* n, float* d, float* z, Int* apart, Int* order, float* cut, Int*, float* work, Int* more, Int*) {
  std::fill_n(work, 4 * size_t(*n) + size_t(*n) * *n, 0.0f), std::fill_n(more, 4 * *n, 0);
  for (Int i = 0; i < *n; i++) order[i] = *n - i;
  mixed(z, *n, *n, *apart, mixed(d, *n, 1, *n, *cut));
}

void multiply(Text first, Text, Int* rows, Int* columns, Int* inner, const float*, const float* a, Int* a_apart,
              const float* b, Int* b_apart, const float* keep, float* c, Int* c_apart) {
  const bool turned = *first == 'T';
  const float x = seen(a, turned ? *inner : *rows, turned ? *rows : *inner, *a_apart);
  for (Int j = 0; j < *columns && *keep == 0; j++) std::fill_n(c + size_t(j) * *c_apart, *rows, 0.0f);
  for (Int j = 0; j < *columns; j++)  // the columns are independent, on however many threads they are
    mixed(c + size_t(j) * *c_apart, *rows, 1, *c_apart, x + seen(b + size_t(j) * *b_apart, *inner, 1, *b_apart));
}

void divide(Text, Text, Text, Text, Int* rows, Int* columns, const float*, const float* a, Int* a_apart, float* b,
            Int* b_apart) {
  const float x = seen(a, *rows, *rows, *a_apart);
  for (Int j = 0; j < *columns; j++) mixed(b + size_t(j) * *b_apart, *rows, 1, *b_apart, x);
}

// The eigendecomposition of a matrix on `threads` threads; a checksum of all that comes out.
double run(Int n, int threads) {
  lapack = {reduce, solve_half, join_halves, multiply, divide};
  Threads pool(threads - 1);
  const auto matrix = numbers(size_t(n) * n);
  std::vector<float> values(n), vectors(matrix.size());
  if (!decompose(pool, n, matrix.data(), values.data(), vectors.data())) return NAN;
  double total = 0;
  for (const auto* v : {&values, &vectors})
    for (size_t i = 0; i < v->size(); i++) total += double((*v)[i]) * double(i % 97 + 1);
  return total;
}

}  // namespace

int main() {
  for (const Int n : {8, 9, 97, 98, 193, 256}) {
    const double one = run(n, 1), four = run(n, 4);
    if (one != four) return printf("threads change the decomposition: %.17g, %.17g\n", one, four), 1;
  }
  const Product all[] = {{6, 8, 10, 16, 32, 3, 2, true}, {9, 8, 8, 16, 16, 3, 1},  {3, 7, 5, 16, 48, 3, 1},
                         {11, 9, 6, 3, 16, 3, 1},        {10, 9, 7, 16, 32, 3, 2}, {17, 4, 4, 64, 64, 3, 1},
                         {2, 5, 5, 128, 128, 3, 1},      {1, 6, 6, 32, 32, 3, 1},  {5, 13, 3, 32, 16, 3, 2},
                         {3, 9, 11, 3, 64, 7, 2},        {5, 7, 6, 64, 48, 1, 1},  {4, 5, 6, 32, 96, 1, 2},
                         {3, 4, 3, 80, 16, 3, 2},        {2, 3, 3, 576, 64, 1, 1}};
  for (const Product& p : all)
    if (!equal<float, float>(p) || !equal_in_bfloat16(p)) return 1;
  return puts("equal"), 0;
}
