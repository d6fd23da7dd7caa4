// A client of streaming URLs, SPDY/3.1 as kubelet speaks it, that does as little as possible with
// the bytes: what is measured is the server.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

namespace linnet::bench {

// Thread-compatible. Every call blocks, for half a minute at most.
class SpdyStream {
 public:
  // `url`: http://ADDRESS:PORT/…; `protocol`: "v4.channel.k8s.io".
  static Result<SpdyStream> Open(const std::string& url, const std::string& protocol);

  // Opens a stream with these headers; its id.
  Result<std::uint32_t> NewStream(const std::vector<std::pair<std::string, std::string>>& headers,
                                  bool fin);
  // Reads until `ends` streams of those in `counted` have ended, or the server hangs up; adds to
  // `counted` the bytes of each.
  Result<void> Count(std::map<std::uint32_t, std::uint64_t>& counted, std::size_t ends);

 private:
  explicit SpdyStream(UniqueFd socket) : socket_(std::move(socket)) {}
  Result<void> Send(const std::string& bytes);

  UniqueFd socket_;
  std::string early_;  // behind the answer's head
  std::uint32_t next_id_ = 1;
};

// exec: error, stdout (and stdin where asked for). Ids are 1, 3, 5.
Result<SpdyStream> OpenExec(const std::string& url, bool with_stdin);

}  // namespace linnet::bench
