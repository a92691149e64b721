// The kernels under a sanitizer, without Python: a pool of three threads runs every kind of unit.
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <functional>
#include <mutex>

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

// One convolution forward and backward on `threads` threads; a checksum of all that comes out.
double run(const Product& p, int threads) {
  Threads pool(threads - 1);
  const int64_t in = p.in, out = p.out;
  const bool norm = in % kVector == 0;
  const auto x = numbers(p.batch * p.input()), w = numbers(p.kernel()), affine = numbers(2 * in);
  const auto dy = numbers(p.batch * p.pixels() * out), z = numbers(dy.size()), k = numbers(2 * out);
  const auto shortcut = numbers(x.size());
  std::vector<float> y(dy.size()), sums(2 * out), kept(x.size()), dx(x.size()), pooled(x.size());
  std::vector<float> dsums(2 * in), dk(w.size()), dshortcut(x.size());
  const Before before = {x.data(), norm ? affine.data() : nullptr, norm ? shortcut.data() : nullptr};
  float* keep = norm ? kept.data() : nullptr;
  const Arriving given = {dy.data(), z.data(), k.data(), norm ? shortcut.data() : nullptr, keep};
  const Leaving leaving = {norm ? dx.data() : nullptr, dsums.data(), dk.data(), norm ? dshortcut.data() : nullptr};
  if (p.size == 3 && p.stride == 1 && norm) {
    const Unit u = {p.batch, p.height, p.width, p.in, p.out};
    with_widths(u, [&](auto a, auto b) {
      forward(a, b, pool, u, before, w.data(), y.data(), sums.data(), keep);
      backward(a, b, pool, u, before, given, w.data(), leaving);
    });
  } else {
    forward(pool, p, before, w.data(), y.data(), sums.data(), keep);
    backward(pool, p, before, given, w.data(), leaving);
  }
  if (norm) {
    const Pool windows = {p.batch, p.height, p.width, p.in};
    forward(pool, windows, x.data(), affine.data(), pooled.data());
    backward(pool, windows, pooled.data(), x.data(), affine.data(), kept.data(), dsums.data());
  }
  double total = 0;
  for (const auto* v : {&pooled, &y, &sums, &kept, &dx, &dsums, &dk, &dshortcut})
    for (size_t i = 0; i < v->size(); i++) total += double((*v)[i]) * double(i % 97 + 1);
  return total;
}

}  // namespace

int main() {
  const Product all[] = {{6, 8, 10, 16, 32, 3, 2, true}, {9, 8, 8, 16, 16, 3, 1},  {3, 7, 5, 16, 48, 3, 1},
                         {11, 9, 6, 3, 16, 3, 1},        {10, 9, 7, 16, 32, 3, 2}, {17, 4, 4, 64, 64, 3, 1},
                         {2, 5, 5, 128, 128, 3, 1},      {1, 6, 6, 32, 32, 3, 1},  {5, 13, 3, 32, 16, 3, 2},
                         {3, 9, 11, 3, 64, 7, 2},        {5, 7, 6, 64, 48, 1, 1},  {4, 5, 6, 32, 96, 1, 2},
                         {3, 4, 3, 80, 16, 3, 2},        {2, 3, 3, 576, 64, 1, 1}};
  for (const Product& p : all) {
    const double one = run(p, 1), four = run(p, 4);
    if (one != four) return printf("threads change the result: %.17g, %.17g\n", one, four), 1;
  }
  return puts("equal"), 0;
}
