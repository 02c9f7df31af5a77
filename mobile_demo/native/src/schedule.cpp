#include "schedule.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace effine {
namespace {

constexpr std::array<double, 10> kSine{
    3.141592653589793,      -5.16771278004997,      2.5501640398773455,
    -0.5992645293207921,    0.08214588661112823,    -0.0073704309457143504,
    0.00046630280576761255, -2.1915353447830217e-05, 7.952054001475513e-07,
    -2.2948428997269873e-08};

}  // namespace

bool is_schedule(const std::string& name) {
  return name == "constant" || name == "linear" || name == "cosine";
}

float rate(const std::string& schedule, double peak, int64_t update, int64_t total,
           double warmup) {
  const double warm = std::ceil(warmup * double(total)), t = double(update);
  if (t < warm) return static_cast<float>(peak * (t + 1) / warm);
  const double progress = (t - warm) / std::max(1.0, double(total) - warm);
  if (schedule == "linear") return static_cast<float>(peak * (1.0 - progress));
  if (schedule == "cosine") return static_cast<float>(peak * 0.5 * (1.0 + cos_pi(progress)));
  return static_cast<float>(peak);
}

double cos_pi(double p) {
  const double x = p - 0.5, z = x * x;
  double s = kSine.back();
  for (size_t k = kSine.size() - 1; k-- > 0;) s = s * z + kSine[k];
  return -(s * x);
}

}  // namespace effine
