// The streaming variants of the lists: the same items, some at a time, so that no message grows
// with the node.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>

#include <grpcpp/grpcpp.h>

#include "serve.h"

namespace linnet::cri {

inline constexpr int kItemsPerMessage = 64;

// Sends `list`'s items, then ends. `add(response, item)` puts one item into a message.
template <class Item, class Response>
class ListStream final : public grpc::ServerWriteReactor<Response> {
 public:
  using Items = google::protobuf::RepeatedPtrField<Item>;
  using Field = Items* (*)(Response&);

  ListStream(Items items, Field field) : items_(std::move(items)), field_(field) { Next(); }
  explicit ListStream(const grpc::Status& status) { this->Finish(status); }

  void OnWriteDone(bool ok) override {
    if (ok) {
      Next();
    } else {
      this->Finish(grpc::Status::CANCELLED);
    }
  }
  void OnDone() override { delete this; }

 private:
  void Next() {
    if (sent_ == items_.size()) {
      this->Finish(grpc::Status::OK);
      return;
    }
    message_.Clear();
    const int end = std::min(items_.size(), sent_ + kItemsPerMessage);
    for (; sent_ < end; ++sent_) field_(message_)->Add(std::move(*items_.Mutable(sent_)));
    this->StartWrite(&message_);
  }

  Items items_;
  Field field_ = nullptr;
  int sent_ = 0;
  Response message_;
};

// Runs `handler`, which fills `list` (a response of the unary variant), and streams what
// `items(list)` holds.
template <class Response, class List, class Item>
grpc::ServerWriteReactor<Response>* ServeList(
    Edge& edge, grpc::CallbackServerContext* context, const Method& method,
    std::move_only_function<Result<void>(List&, const Call&)> handler,
    google::protobuf::RepeatedPtrField<Item>* (List::*items)(),
    google::protobuf::RepeatedPtrField<Item>* (*field)(Response&)) {
  List list;
  Handler run = [&](const Call& call) { return handler(list, call); };
  About about = [] { return Subject(); };
  const grpc::Status status = edge.Run(edge.Begin(context, {}), method, about, run);
  if (!status.ok()) return new ListStream<Item, Response>(status);  // OnDone deletes it
  return new ListStream<Item, Response>(std::move(*(list.*items)()), field);
}

}  // namespace linnet::cri
