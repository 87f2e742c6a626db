// A few threads that wait for work: what they share is cut in pieces that do not depend on how many they are.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace spos {

class Threads {
 public:
  explicit Threads(int count) : count_(count) {
    for (int i = 1; i < count; ++i) others_.emplace_back([this, i] { wait(i); });
  }

  ~Threads() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ends_ = true;
      number_.fetch_add(1);
    }
    begins_.notify_all();
    for (std::thread& other : others_) other.join();
  }

  int count() const { return count_; }

  // work(piece, thread) for every piece; the caller works too.
  void share(std::int64_t pieces, const std::function<void(std::int64_t, int)>& work) {
    if (count_ == 1 || pieces == 1) {
      for (std::int64_t piece = 0; piece < pieces; ++piece) work(piece, 0);
      return;
    }
    std::lock_guard<std::mutex> region(region_);  // callers in several threads take turns
    {
      std::lock_guard<std::mutex> lock(mutex_);
      work_ = &work;
      pieces_ = pieces;
      next_.store(0);
      busy_.store(count_ - 1);
      number_.fetch_add(1);
    }
    begins_.notify_all();
    run(work, pieces, 0);
    while (busy_.load(std::memory_order_acquire)) std::this_thread::yield();
  }

 private:
  static constexpr int kSpins = 4000;  // tens of microseconds: regions follow one another closely

  void run(const std::function<void(std::int64_t, int)>& work, std::int64_t pieces, int thread) {
    for (std::int64_t piece; (piece = next_.fetch_add(1)) < pieces;) work(piece, thread);
  }

  void wait(int thread) {
    std::uint64_t seen = 0;
    for (;;) {
      for (int i = 0; i < kSpins && number_.load(std::memory_order_acquire) == seen; ++i) pause();
      {
        std::unique_lock<std::mutex> lock(mutex_);
        begins_.wait(lock, [&] { return number_.load() != seen; });
        seen = number_.load();
        if (ends_) return;
      }
      run(*work_, pieces_, thread);
      busy_.fetch_sub(1, std::memory_order_release);
    }
  }

  static void pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
  }

  const int count_;
  std::vector<std::thread> others_;
  std::mutex mutex_, region_;
  std::condition_variable begins_;
  std::atomic<std::uint64_t> number_{0};
  std::atomic<std::int64_t> next_{0};
  std::atomic<int> busy_{0};
  const std::function<void(std::int64_t, int)>* work_ = nullptr;
  std::int64_t pieces_ = 0;
  bool ends_ = false;
};

}  // namespace spos
