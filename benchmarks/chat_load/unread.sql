-- My rooms, and how many messages in each I have not read.
\set user random(1, :users)
SELECT r.id, r.name, r.last_seq - m.last_read_seq AS unread
FROM room_users AS m JOIN rooms AS r ON r.id = m.room_id
WHERE m.user_id = md5('user ' || :user)::uuid
ORDER BY unread DESC;
