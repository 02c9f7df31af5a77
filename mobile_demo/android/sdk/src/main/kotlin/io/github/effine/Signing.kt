package io.github.effine

import java.io.File
import java.security.AlgorithmParameters
import java.security.GeneralSecurityException
import java.security.KeyFactory
import java.security.PublicKey
import java.security.Signature
import java.security.interfaces.ECPublicKey
import java.security.spec.ECGenParameterSpec
import java.security.spec.ECParameterSpec
import java.security.spec.X509EncodedKeySpec
import java.util.Base64

internal const val MAX_SIGNATURE = 1024

/**
 * The P-256 key in a PEM text (`BEGIN PUBLIC KEY`).
 *
 * @throws EffineError the text is anything else.
 */
fun publicKey(pem: String): PublicKey = try {
    val body = pem.substringAfter("-----BEGIN PUBLIC KEY-----").substringBefore("-----END PUBLIC KEY-----")
    val encoded = Base64.getDecoder().decode(body.filterNot { it.isWhitespace() })
    val key = KeyFactory.getInstance("EC").generatePublic(X509EncodedKeySpec(encoded)) as ECPublicKey
    val curve = AlgorithmParameters.getInstance("EC").apply { init(ECGenParameterSpec("secp256r1")) }
    val wanted = curve.getParameterSpec(ECParameterSpec::class.java)
    val found = key.params
    if (found.curve != wanted.curve || found.order != wanted.order || found.generator != wanted.generator) {
        throw EffineError("the public key is on another curve than P-256; make one with effine keygen")
    }
    key
} catch (error: IllegalArgumentException) {
    throw EffineError("the public key isn't PEM; make one with effine keygen", error)
} catch (error: GeneralSecurityException) {
    throw EffineError("the public key can't be read: ${error.message}; make one with effine keygen", error)
}

/** Whether [signature] (DER) is the key's ECDSA signature of the SHA-256 of [content]. */
internal fun isSignedBy(key: PublicKey, content: ByteArray, signature: ByteArray): Boolean = try {
    Signature.getInstance("SHA256withECDSA").run {
        initVerify(key)
        update(content)
        verify(signature)
    }
} catch (_: GeneralSecurityException) {
    false
}

/** Checks that [signature] is the key's signature of the file [signed], whose bytes are [content]. */
internal fun checkSignature(signed: File, content: ByteArray, signature: File, key: PublicKey) {
    if (!exists(signature)) {
        throw ArtifactError("$signature: missing, but a signature is demanded; pack it with effine pack --sign")
    }
    if (!isSignedBy(key, content, readPlain(signature, MAX_SIGNATURE))) {
        throw ArtifactError("$signature: isn't the expected key's signature of ${signed.name}; don't use it")
    }
}
