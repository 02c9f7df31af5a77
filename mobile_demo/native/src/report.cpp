#include "report.h"

#include <cstdio>

namespace effine {
namespace {

constexpr double kFlat = 0.98;

std::string number(const char* format, double value) {
  char text[64];
  return {text, static_cast<size_t>(std::snprintf(text, sizeof text, format, value))};
}

std::string range(double first, double last) {
  return " (" + number("%.4g", first) + " to " + number("%.4g", last) + "): ";
}

}  // namespace

Report Report::from_json(const Json& json) {
  Report report;
  report.samples = json.at("samples").integer();
  report.truncated = json.at("truncated").integer();
  report.epochs = json.at("epochs").array();
  report.before = json.at("before");
  report.discarded = json.at("discarded").array();
  report.warnings = strings(json.at("warnings"));
  report.best_epoch = json.at("best_epoch").integer();
  report.cancelled = json.at("cancelled").boolean();
  report.loss_sum = json.at("loss_sum").number();
  report.weight_sum = json.at("weight_sum").number();
  if (const Json* decisions = json.find("decisions")) report.decisions = decisions->array();
  return report;
}

Json Report::to_json() const {
  Json::Object json{{"samples", samples},
                    {"truncated", truncated},
                    {"epochs", epochs},
                    {"before", before},
                    {"discarded", discarded},
                    {"warnings", effine::to_json(warnings)},
                    {"best_epoch", best_epoch},
                    {"cancelled", cancelled},
                    {"loss_sum", loss_sum},
                    {"weight_sum", weight_sum}};
  if (!decisions.empty()) json["decisions"] = decisions;
  return json;
}

std::optional<double> Report::end_epoch(int64_t epoch) {
  std::optional<double> mean;
  if (weight_sum != 0) mean = loss_sum / weight_sum;
  loss_sum = weight_sum = 0;
  epochs.push_back(Json::Object{{"epoch", epoch},
                                {"loss", mean ? Json(*mean) : Json()},
                                {"metrics", Json::Object()}});
  return mean;
}

void Report::diagnose(bool changed, const Json& frozen_head) {
  std::vector<double> losses;
  for (const Json& epoch : epochs) {
    if (!epoch.at("loss").is_null()) losses.push_back(epoch.at("loss").number());
  }
  warnings.clear();
  if (!changed) {
    warnings.push_back(
        "the parameters didn't change: all updates were discarded, or the learning rates are 0");
  } else if (losses.size() > 1 && losses.back() > losses.front()) {
    warnings.push_back("the loss rose" + range(losses.front(), losses.back()) +
                       "lower learning rates");
  } else if (losses.size() > 1 && losses.back() > kFlat * losses.front()) {
    warnings.push_back("the loss is flat" + range(losses.front(), losses.back()) +
                       "raise the learning rates or the number of epochs, and check that labels "
                       "match their texts");
  }
  if (warnings.empty() || frozen_head.is_null()) return;
  warnings.push_back("for comparison, a linear head on the frozen backbone reaches " +
                     frozen_head.at("metric").string() + " " +
                     number("%.3f", frozen_head.at("score").number()) + " (" +
                     frozen_head.at("data").string() + ")");
}

}  // namespace effine
