-- Open a room: its latest 50 messages.
\set room random_zipfian(1, :rooms, :skew)
SELECT m.id, m.seq, m.content, m.created_at, m.edited_at, m.user_id, u.username, u.avatar_url
FROM messages AS m LEFT JOIN users AS u ON u.id = m.user_id
WHERE m.room_id = md5('room ' || :room)::uuid AND m.deleted_at IS NULL
ORDER BY m.seq DESC LIMIT 50;
