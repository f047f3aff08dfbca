-- A chat of :messages messages in :rooms rooms, the same on every machine: ids and choices are hashes of numbers.
-- Rooms are filled as the scripts visit them: the n-th by n^-skew. Triggers and foreign keys rest meanwhile;
-- consistent.sql asks afterwards whether they would have agreed.
SET session_replication_role = replica;
SET work_mem = '256MB';

CREATE TEMPORARY TABLE sizes AS
SELECT n, greatest(1, floor(:messages * weight / sum(weight) OVER ()))::int AS messages
FROM (SELECT n, power(n, -:skew) AS weight FROM generate_series(1, :rooms) AS n) AS weights;
UPDATE sizes SET messages = messages + :messages - (SELECT sum(messages) FROM sizes) WHERE n = 1;

-- 10 kB of words, of which every message is a piece.
CREATE TEMPORARY TABLE words AS
SELECT string_agg(
    (ARRAY['so', 'we', 'meet', 'at', 'the', 'station', 'tomorrow', 'and', 'who', 'brings', 'coffee', 'or', 'maybe', 'tea',
     'yes', 'I', 'read', 'your', 'last', 'message', 'twice', 'deploy', 'is', 'green', 'again', 'thanks', 'everyone'])
    [1 + (hashint4extended(n, 1) & 1048575) % 27], ' ' ORDER BY n) AS text
FROM generate_series(1, 2000) AS n;

INSERT INTO users (id, email, password_hash, username, created_at, updated_at)
SELECT md5('user ' || n)::uuid, 'user' || n || '@example.com', repeat(md5(n::text), 3), 'user' || n, moment, moment
FROM generate_series(1, :users) AS n, (VALUES (timestamptz '2025-01-01 00:00 UTC')) AS start (moment);

INSERT INTO rooms (id, name, created_by, last_seq, created_at, updated_at)
SELECT md5('room ' || n)::uuid, 'room ' || n, md5('user ' || 1 + n % :users)::uuid, messages, moment, moment
FROM sizes, (VALUES (timestamptz '2025-01-01 00:00 UTC')) AS start (moment);

-- Some 25 rooms for each user, and the popular ones for nearly all; each read up to somewhere.
INSERT INTO room_users (room_id, user_id, last_read_seq, joined_at)
SELECT md5('room ' || n)::uuid, md5('user ' || person)::uuid, floor(messages * part)::bigint, '2025-01-01 00:00 UTC'
FROM (
    SELECT DISTINCT person, floor(exp(ln(:rooms + 1) * (hashint8extended(person, draw) & 1048575) / 1048576.0))::int AS n
    FROM generate_series(1, :users) AS person, generate_series(1, 30) AS draw
) AS choices
JOIN sizes USING (n),
LATERAL (SELECT (hashint8extended(person, n) & 1048575) / 1048576.0 AS part) AS dice;

-- In the order of time, as they were posted: a room's messages lie scattered over the table.
INSERT INTO messages (id, room_id, seq, user_id, content, created_at)
SELECT
    md5('message ' || n || ' ' || seq)::uuid, md5('room ' || n)::uuid, seq, md5('user ' || 1 + (dice >> 20 & 1048575) % :users)::uuid,
    substr(text, 1 + (dice >> 40 & 8191)::int, 8 + floor(240 * power((dice & 1023) / 1024.0, 3))::int),
    timestamptz '2025-01-01 00:00 UTC' + part * interval '90 days'
FROM (
    SELECT n, seq, dice, (seq - 1 + (dice & 1048575) / 1048576.0) / messages AS part
    FROM sizes, generate_series(1, messages) AS seq, LATERAL (SELECT hashint8extended(seq, n) AS dice) AS thrown
) AS posts, words
ORDER BY part, n;
