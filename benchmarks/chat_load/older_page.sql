-- Scroll up: the 50 messages before a number that the client has, mostly a recent one.
\set room random_zipfian(1, :rooms, :skew)
\set last greatest(1, int(:messages * pow(:room, 0 - :skew) / :weights))
\set before :last + 1 - random_zipfian(1, :last, 1.001)
SELECT m.id, m.seq, m.content, m.created_at, m.edited_at, m.user_id, u.username, u.avatar_url
FROM messages AS m LEFT JOIN users AS u ON u.id = m.user_id
WHERE m.room_id = md5('room ' || :room)::uuid AND m.seq < :before AND m.deleted_at IS NULL
ORDER BY m.seq DESC LIMIT 50;
