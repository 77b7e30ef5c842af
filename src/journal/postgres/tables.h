// SPDX-License-Identifier: Apache-2.0
// The migrations: SQL that takes a store from each version to the next. A release's migration is
// never changed afterwards; what is to be otherwise is the next one's work.
#pragma once
#include <string_view>

namespace aether::journal::postgres {

/// All columns that are compared are bytes to the database (COLLATE "C"), whatever its language.
inline constexpr std::string_view kTables = R"(
CREATE TABLE aether.event(
  position bigint PRIMARY KEY,
  stream text COLLATE "C" NOT NULL,
  sequence bigint NOT NULL,
  mark smallint NOT NULL,              -- 0 point, 1 open, 2 close
  span text COLLATE "C",
  line text COLLATE "C" NOT NULL,      -- the event: what is hashed, proved and exported
  leaf bytea NOT NULL,                 -- SHA-256(0x00 || line)
  UNIQUE(stream, sequence)
);
-- The span law. An effect is a span, and so its intent is appended once, whoever appends it.
CREATE UNIQUE INDEX event_span ON aether.event(stream, span, mark) WHERE mark > 0;
CREATE TABLE aether.blob(hash bytea PRIMARY KEY, salt bytea, content bytea);
CREATE TABLE aether.checkpoint(
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text COLLATE "C" NOT NULL
);
-- Whoever holds its one row gives the next positions. A process has it for one statement only.
CREATE TABLE aether.head(
  one boolean PRIMARY KEY DEFAULT true CHECK(one), position bigint NOT NULL
);
INSERT INTO aether.head(position) VALUES(0);
-- Who appends: its last group, and the position before each of its last ones. What was sent twice,
-- because the first answer was lost, is recognised by it.
CREATE TABLE aether.writer(
  id bytea PRIMARY KEY, last bigint NOT NULL, bases bigint[] NOT NULL,
  seen timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
-- What follows could be made again from the events.
CREATE TABLE aether.stream(
  name text COLLATE "C" PRIMARY KEY,
  last bigint NOT NULL, fence bigint NOT NULL, head bigint NOT NULL
) WITH (fillfactor = 80);
CREATE TABLE aether.taken(key text COLLATE "C" PRIMARY KEY, position bigint NOT NULL);
CREATE TABLE aether.node(
  level bigint, number bigint, hash bytea NOT NULL, PRIMARY KEY(level, number)
);
CREATE TABLE aether.record(
  view text COLLATE "C", key bytea, value bytea NOT NULL, PRIMARY KEY(view, key)
) WITH (fillfactor = 80);
-- Who works on what, and until when it is believed to live. No event, and no truth.
CREATE TABLE aether.claim(
  key bytea PRIMARY KEY, holder text COLLATE "C" NOT NULL, until timestamptz NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX claim_holder ON aether.claim(holder);
)";

/// Appends one group of batches, whole or not at all. Gives the position before its first event;
/// -1: something in it is refused, and nothing was changed; -2: it is not the writer's next group.
/// A span that is opened or closed a second time is refused by its index: unique_violation.
///
/// The head's row is locked first, so that what is compared below stays as it is until the commit.
/// Everything goes in one statement: a process that is stopped in the middle holds nobody up.
///
/// The subqueries with LIMIT are looked up by an index once a row, whatever the planner believes of
/// the sizes of tables; as joins they may become a reading of the whole index for each group.
inline constexpr std::string_view kAppend = R"(
CREATE OR REPLACE FUNCTION aether.append(
  writer_id bytea, number bigint, ahead bigint,
  s_name text[], s_expected bigint[], s_held bigint[], s_raised bigint[], s_count bigint[],
  s_last bigint[],
  e_stream bigint[], e_ordinal bigint[], e_mark bigint[], e_span text[],
  e_before text[], e_middle text[], e_after text[],
  c_stream bigint[], c_span text[],
  k_key text[], k_event bigint[],
  b_named bytea[], b_hash bytea[], b_salt bytea[], b_content bytea[],
  r_view text[], r_key bytea[], r_value bytea[],
  d_view text[], d_key bytea[],
  dropped text[], erased bytea[], notes text[], told text[]
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  base bigint;
  mine record;
  moved boolean;
  lasts bigint[];   -- of each stream of s_name, before this group
  fences bigint[];
  count bigint := cardinality(e_before);
BEGIN
  SELECT h.position INTO base FROM aether.head h FOR UPDATE;
  SELECT w.last, w.bases INTO mine FROM aether.writer w WHERE w.id = writer_id;
  IF mine.last IS DISTINCT FROM number - 1 THEN
    IF mine.last >= number AND mine.last < number + 16 THEN
      RETURN mine.bases[1 + number % 16];
    END IF;
    RETURN -2;
  END IF;
  SELECT array_agg(coalesce(s.last, 0) ORDER BY c.at),
    array_agg(coalesce(s.fence, 0) ORDER BY c.at),
    bool_or(c.expected <> coalesce(s.last, 0) OR c.held <> coalesce(s.fence, 0)
      OR c.raised <= coalesce(s.fence, 0))
  INTO lasts, fences, moved
  FROM unnest(s_name, s_expected, s_held, s_raised)
    WITH ORDINALITY c(name, expected, held, raised, at)
  LEFT JOIN LATERAL (
    SELECT t.last, t.fence FROM aether.stream t WHERE t.name = c.name LIMIT 1) s ON true;
  IF ahead > base OR coalesce(moved, false)
    OR EXISTS(
      SELECT FROM unnest(c_stream, c_span) c(stream, span)
      WHERE (
        SELECT f.mark FROM aether.event f WHERE f.stream = s_name[c.stream] AND f.span = c.span
          AND f.mark = 1 AND f.mark > 0 LIMIT 1) IS NULL)
    OR EXISTS(
      SELECT FROM unnest(k_key) k(key)
      WHERE (SELECT t.key FROM aether.taken t WHERE t.key = k.key LIMIT 1) IS NOT NULL)
    OR EXISTS(
      SELECT FROM unnest(b_named) n(hash)
      WHERE (SELECT b.hash FROM aether.blob b WHERE b.hash = n.hash LIMIT 1) IS NULL)
  THEN
    RETURN -1;
  END IF;
  IF cardinality(dropped) > 0 THEN
    DELETE FROM aether.record r USING unnest(dropped) d(view) WHERE r.view = d.view;
  END IF;
  WITH lines AS (
    INSERT INTO aether.event(position, stream, sequence, mark, span, line, leaf)
    SELECT base + l.at, s_name[l.stream], lasts[l.stream] + l.ordinal, l.mark, nullif(l.span, ''),
      l.line, sha256('\x00'::bytea || convert_to(l.line, 'UTF8'))
    FROM (SELECT e.at, e.stream, e.ordinal, e.mark, e.span,
        e.before || coalesce(s_raised[e.stream], fences[e.stream]) || e.middle || (base + e.at) ||
          ',"sequence":' || (lasts[e.stream] + e.ordinal) || e.after AS line
      FROM unnest(e_stream, e_ordinal, e_mark, e_span, e_before, e_middle, e_after)
        WITH ORDINALITY e(stream, ordinal, mark, span, before, middle, after, at)
      OFFSET 0) l
  ), streams AS (
    INSERT INTO aether.stream(name, last, fence, head)
    SELECT c.name, c.count, coalesce(c.raised, 0), base + c.at
    FROM unnest(s_name, s_raised, s_count, s_last) c(name, raised, count, at) WHERE c.count > 0
    ON CONFLICT (name) DO UPDATE SET last = stream.last + excluded.last,
      fence = greatest(stream.fence, excluded.fence), head = excluded.head
  ), rows AS (
    INSERT INTO aether.record(view, key, value) SELECT * FROM unnest(r_view, r_key, r_value)
    ON CONFLICT (view, key) DO UPDATE SET value = excluded.value
  ), me AS (
    UPDATE aether.writer w SET last = number, bases[1 + number % 16] = base, seen = now()
    WHERE w.id = writer_id
  )
  UPDATE aether.head h SET position = base + count WHERE h.one;
  IF cardinality(k_key) > 0 THEN
    INSERT INTO aether.taken(key, position)
    SELECT k.key, base + k.event FROM unnest(k_key, k_event) k(key, event);
  END IF;
  IF cardinality(b_hash) > 0 THEN
    INSERT INTO aether.blob(hash, salt, content)
    SELECT * FROM unnest(b_hash, b_salt, b_content) ON CONFLICT DO NOTHING;
  END IF;
  FOR at IN 1 .. cardinality(d_view) LOOP
    DELETE FROM aether.record r WHERE r.view = d_view[at] AND r.key = d_key[at];
  END LOOP;
  IF cardinality(erased) > 0 THEN
    UPDATE aether.blob b SET salt = NULL, content = NULL FROM unnest(erased) x(hash)
    WHERE b.hash = x.hash;
  END IF;
  IF cardinality(notes) > 0 THEN
    INSERT INTO aether.checkpoint(note) SELECT * FROM unnest(notes);
  END IF;
  IF cardinality(told) > 0 THEN
    PERFORM pg_notify('aether', t.name) FROM unnest(told) t(name);
  END IF;
  RETURN base;
END $$;
)";

struct Migration {
  std::string_view tables;
  std::string_view functions;
};
inline constexpr Migration kMigrations[] = {{.tables = kTables, .functions = kAppend}};

}  // namespace aether::journal::postgres
