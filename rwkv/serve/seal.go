package serve

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"time"
)

// sealer makes states that clients keep: only the servers with its key can read them, and only for the
// caller, the model and the time that they were made for.
type sealer struct{ gcm cipher.AEAD }

// newSealer returns a sealer with a key of 32 bytes, a random one if it is nil.
func newSealer(key []byte) (*sealer, error) {
	if key == nil {
		key = make([]byte, 32)
		rand.Read(key)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	return &sealer{gcm}, err
}

// bound is what a sealed state is for.
func bound(owner, fingerprint string) []byte { return []byte(owner + " " + fingerprint) }

// seal returns a state with what is known of it.
func (s *sealer) seal(owner string, m *stateMeta, data []byte) (string, error) {
	about, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	plain := binary.LittleEndian.AppendUint32(nil, uint32(len(about)))
	plain = append(append(plain, about...), data...)
	return base64.RawURLEncoding.EncodeToString(s.gcm.Seal(nil, nil, plain, bound(owner, m.Fingerprint))), nil
}

// errSeal is the error of all that seal didn't make for this.
var errSeal = &Error{Status: 400, Code: "bad_state", Param: "state.sealed", Message: "the sealed state is damaged, too old, or was made for another key, model or server"}

// open is the reverse of seal.
func (s *sealer) open(owner, fingerprint, sealed string) (*stateMeta, []byte, error) {
	b, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		return nil, nil, errSeal
	}
	plain, err := s.gcm.Open(nil, nil, b, bound(owner, fingerprint))
	if err != nil || len(plain) < 4 {
		return nil, nil, errSeal
	}
	n := int(binary.LittleEndian.Uint32(plain))
	if plain = plain[4:]; n > len(plain) {
		return nil, nil, errSeal
	}
	m := &stateMeta{}
	if err := json.Unmarshal(plain[:n], m); err != nil || time.Now().Unix() >= m.Expires {
		return nil, nil, errSeal
	}
	return m, plain[n:], nil
}
