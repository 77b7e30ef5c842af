// SPDX-License-Identifier: Apache-2.0
#include "steer/lookup_table.h"

#include <netinet/in.h>

#include <array>

#include <gtest/gtest.h>

#include "steer/bind_claims.h"
#include "steer/bind_rewriter.h"
#include "steer/bpf_steer.h"

namespace aether::steer {
namespace {

Address at(std::string_view text) {
  return parse_address(text).value();
}

TEST(LookupTable, HasSharesWithAWeightFirstAndKeepsTheirOrder) {
  std::array const shares{SlotShare{.slot = 5, .weight = 0}, SlotShare{.slot = 6, .weight = 30},
                          SlotShare{.slot = 7, .weight = 70}};
  auto const table = make_table(shares, Stick::Source, 99, 4);
  ASSERT_TRUE(table);
  EXPECT_EQ(table->active, 2U);
  EXPECT_EQ(table->count, 3U);
  EXPECT_EQ(table->total, 100U);
  EXPECT_EQ(table->stick, 1U);
  EXPECT_EQ(table->waiting, 4U);
  EXPECT_EQ(table->share[0].slot, 6U);
  EXPECT_EQ(table->share[0].until, 30U);
  EXPECT_EQ(table->share[1].slot, 7U);
  EXPECT_EQ(table->share[1].until, 100U);
  EXPECT_EQ(table->share[2].slot, 5U);
}

TEST(LookupTable, RefusesWeightsWhoseSumCannotBeDrawn) {
  std::array const shares{SlotShare{.slot = 1, .weight = UINT32_MAX},
                          SlotShare{.slot = 2, .weight = 1}};
  auto const table = make_table(shares, Stick::None, 0, 0);
  ASSERT_FALSE(table);
  EXPECT_EQ(table.error().code(), ErrorCode::RequestInvalid);
}

TEST(LookupTable, HasAKeyForEachFamilyOfAnAddress) {
  EXPECT_EQ(keys_of(at(":80"), false).size(), 2U);
  EXPECT_EQ(keys_of(at("[::]:80"), false).size(), 2U);
  EXPECT_EQ(keys_of(at("[::]:80"), true).size(), 1U);
  EXPECT_EQ(keys_of(at("[::]:80"), true)[0].family, AF_INET6);
  EXPECT_EQ(keys_of(at("0.0.0.0:80"), false).size(), 1U);
  auto const v4 = keys_of(at("udp://127.0.0.1:53"), false);
  ASSERT_EQ(v4.size(), 1U);
  EXPECT_EQ(v4[0].protocol, IPPROTO_UDP);
  EXPECT_EQ(v4[0].family, AF_INET);
  EXPECT_EQ(v4[0].address[0], 127);
  EXPECT_EQ(v4[0].address[4], 0);
  auto const v6 = keys_of(at("[::1]:80"), false);
  EXPECT_EQ(v6[0].address[15], 1);
}

TEST(FreeNumbers, GivesTheLongestUnusedOne) {
  FreeNumbers numbers(3);
  EXPECT_EQ(numbers.take(), 0U);
  numbers.give_back(0);
  EXPECT_EQ(numbers.take(), 1U);
  EXPECT_EQ(numbers.take(), 2U);
  EXPECT_EQ(numbers.take(), 0U);
  EXPECT_EQ(numbers.take(), std::nullopt);
}

TEST(BindClaims, SayWhichFamiliesAnAddressHas) {
  std::array const addresses{at(":80"), at("0.0.0.0:80"), at("[::]:80"), at("10.0.0.1:80"),
                             at("[::1]:80")};
  auto const claims = make_claims(addresses, 1, 2);
  ASSERT_TRUE(claims);
  ASSERT_EQ(claims->count, 5U);
  auto const families = [&](std::size_t i) {
    return 10 * claims->claim[i].ipv4 + claims->claim[i].ipv6;
  };
  EXPECT_EQ(families(0), 11);
  EXPECT_EQ(families(1), 10);
  EXPECT_EQ(families(2), 11);
  EXPECT_EQ(families(3), 10);
  EXPECT_EQ(families(4), 1);
  EXPECT_EQ(claims->claim[0].any + claims->claim[1].any + claims->claim[2].any, 3);
  EXPECT_EQ(claims->claim[3].any + claims->claim[4].any, 0);
}

TEST(BindClaims, RefuseWhatCannotBeRewritten) {
  std::vector<Address> const many(kBindClaimsMax + 1, at(":80"));
  EXPECT_EQ(make_claims(many, 1, 2).error().code(), ErrorCode::LimitReached);
  std::array const unix_path{at("unix:/x")};
  EXPECT_EQ(make_claims(unix_path, 1, 2).error().code(), ErrorCode::AddressInvalid);
  std::array const no_port{at("127.0.0.1:0")};
  EXPECT_EQ(make_claims(no_port, 1, 2).error().code(), ErrorCode::AddressInvalid);
}

std::vector<TakenSocket> taken(std::initializer_list<std::string_view> texts) {
  std::vector<TakenSocket> sockets;
  for (auto const text : texts) sockets.push_back({.fd = {}, .address = at(text)});
  return sockets;
}

std::vector<std::string> chosen(std::string_view route, std::vector<TakenSocket> const& sockets) {
  std::vector<std::string> texts;
  for (auto const* socket : sockets_for(at(route), sockets))
    texts.push_back(socket->address.text());
  return texts;
}

using Texts = std::vector<std::string>;

TEST(SocketsFor, AddressesOnOnePortKeepTheirOwn) {
  auto const sockets = taken({"127.0.0.1:80", "10.0.0.1:80", "127.0.0.1:81"});
  EXPECT_EQ(chosen("127.0.0.1:80", sockets), Texts{"127.0.0.1:80"});
  EXPECT_EQ(chosen("10.0.0.1:80", sockets), Texts{"10.0.0.1:80"});
  EXPECT_EQ(chosen("10.0.0.2:80", sockets), Texts{});
  EXPECT_EQ(chosen("udp://127.0.0.1:80", sockets), Texts{});
}

TEST(SocketsFor, EveryInterfaceTakesWhatTheProgramHas) {
  EXPECT_EQ(chosen(":80", taken({"0.0.0.0:80", "[::]:80"})), (Texts{"0.0.0.0:80", "[::]:80"}));
  EXPECT_EQ(chosen(":80", taken({"127.0.0.1:80"})), Texts{"127.0.0.1:80"});
  EXPECT_EQ(chosen("0.0.0.0:80", taken({"[::]:80"})), Texts{"[::]:80"});
  EXPECT_EQ(chosen("127.0.0.1:80", taken({"0.0.0.0:80"})), Texts{"0.0.0.0:80"});
  EXPECT_EQ(chosen("[::1]:80", taken({"0.0.0.0:80"})), Texts{});
}

}  // namespace
}  // namespace aether::steer
