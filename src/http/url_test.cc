// SPDX-License-Identifier: Apache-2.0
#include "http/url.h"

#include <gtest/gtest.h>

namespace aether::http {
namespace {

TEST(ParseUrl, TakesHostPortAndTarget) {
  EXPECT_EQ(parse_url("http://localhost").value(), (Url{"localhost", 80, "/"}));
  EXPECT_EQ(parse_url("HTTP://127.0.0.1:8080/a/b?c=d").value(),
            (Url{"127.0.0.1", 8080, "/a/b?c=d"}));
  EXPECT_EQ(parse_url("http://[::1]:9/").value(), (Url{"::1", 9, "/"}));
  EXPECT_EQ(parse_url("http://host?x").value(), (Url{"host", 80, "/?x"}));
}

TEST(ParseUrl, RefusesEverythingElse) {
  for (std::string_view const wrong : {"",
                                       "localhost:80",
                                       "https://localhost",
                                       "ftp://x",
                                       "http://",
                                       "http:///path",
                                       "http://:80",
                                       "http://h:0",
                                       "http://h:65536",
                                       "http://h:",
                                       "http://h:x",
                                       "http://h:80x",
                                       "http://[::1",
                                       "http://[1.2.3.4]/",
                                       "http://[]/",
                                       "http://[::1]x",
                                       "http://user@h/",
                                       "http://h/#f",
                                       "http://h/a b",
                                       "http://h/\r\nX: y",
                                       "http://h\xc3\xa9/",
                                       "http://a b/",
                                       "http://h,i/"}) {
    auto const url = parse_url(wrong);
    ASSERT_FALSE(url) << wrong;
    EXPECT_EQ(url.error().code(), ErrorCode::AddressInvalid);
  }
}

TEST(ParseUrl, DoesNotRepeatAPasswordInItsError) {
  EXPECT_FALSE(parse_url("http://me:secret@h/").error().message().contains("secret"));
}

TEST(Url, WritesItsAuthorityForTheHostHeader) {
  EXPECT_EQ((Url{"h", 80, "/"}).authority(), "h");
  EXPECT_EQ((Url{"h", 81, "/"}).authority(), "h:81");
  EXPECT_EQ((Url{"::1", 81, "/"}).authority(), "[::1]:81");
}

TEST(ParseTarget, DecodesPathAndQuery) {
  Target const target = parse_target("/a%20b/+c?x=1&y=a+b%26&flag&=v&&x=2").value();
  EXPECT_EQ(target.path, "/a b/+c");
  std::vector<std::pair<std::string, std::string>> const query{
      {"x", "1"}, {"y", "a b&"}, {"flag", ""}, {"", "v"}, {"x", "2"}};
  EXPECT_EQ(target.query, query);
  EXPECT_EQ(parse_target("http://host:80/path?q=1").value().path, "/path");
  EXPECT_EQ(parse_target("*").value().path, "*");
  EXPECT_EQ(parse_target("/%2e%2e/x").value().path, "/../x")
      << "left to the router, which matches whole paths";
}

TEST(ParseTarget, RefusesWhatIsNoTarget) {
  for (std::string_view const wrong :
       {"", "a", "?x", "/%", "/%2", "/%g0", "/%00", "/%0a", "/a#b", "/a b", "host:443",
        "http://host", "/?a=%zz", "/?%1=b", "/\x7f"}) {
    auto const target = parse_target(wrong);
    ASSERT_FALSE(target) << wrong;
    EXPECT_EQ(target.error().code(), ErrorCode::RequestInvalid);
  }
}

TEST(PercentEncode, IsUndoneByParseTarget) {
  std::string const text = "a b/c?d=e&f+g%h~\xc3\xa9";
  EXPECT_EQ(parse_target("/" + percent_encode(text)).value().path, "/" + text);
  EXPECT_EQ(parse_target("/?v=" + percent_encode(text)).value().query.at(0).second, text);
  EXPECT_EQ(percent_encode("a-b_c.d~9/"), "a-b_c.d~9%2F");
}

}  // namespace
}  // namespace aether::http
